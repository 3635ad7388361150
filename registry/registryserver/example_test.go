package registryserver_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"

	"github.com/rollcall-go/rollcall/registry/registryserver"
)

// A registry inside another program: Serve runs it until the context ends.
func ExampleServer_Serve() {
	server, err := registryserver.New(registryserver.WithEnv("prod"), registryserver.WithNodeName("node1"))
	if err != nil {
		log.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, lis) }()

	url := "http://" + lis.Addr().String()
	fmt.Println(post(url+"/api/register", `{"env":"prod","appid":"greeter","hostname":"h1","addrs":["grpc://10.0.0.7:9000"],"status":1}`))
	fmt.Println(post(url+"/api/renew", `{"env":"prod","appid":"greeter","hostname":"h1"}`))
	fmt.Println(post(url+"/api/renew", `{"env":"prod","appid":"greeter","hostname":"h2"}`))

	cancel()
	fmt.Println(<-served)
	// Output:
	// {"code":200,"data":"","message":""}
	// {"code":200}
	// {"code":404,"message":"code: 404, error info: not found"}
	// <nil>
}

func post(url, body string) string {
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(text)
}
