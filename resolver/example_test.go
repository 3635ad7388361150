package resolver_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
	"github.com/rollcall-go/rollcall/resolver"
)

// A client finds a server by the name of its service.
func ExampleNewBuilder() {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	echov1.RegisterEchoServer(server, testenv.NewEcho("one"))
	go server.Serve(lis)
	defer server.Stop()

	reg := memory.New() // or httpregistry.New, or any other
	defer reg.Close()
	inst := registry.Instance{Service: "greeter", ID: "one", Addrs: []string{lis.Addr().String()}}
	if _, err := reg.Register(context.Background(), inst); err != nil {
		log.Fatal(err)
	}

	opts := append(resolver.DialOptions(),
		grpc.WithResolvers(resolver.NewBuilder(reg)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient("discovery:///greeter", opts...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	reply, err := echov1.NewEchoClient(conn).Get(context.Background(), &echov1.GetRequest{})
	fmt.Println(reply.GetInstanceId(), err)
	// Output: one <nil>
}

// A program that is given a target checks it at start.
func ExampleValidateTarget() {
	fmt.Println(resolver.ValidateTarget("discovery:///greeter?zone=a"))
	fmt.Println(resolver.ValidateTarget("discovery:///greeter?region=eu"))
	// Output:
	// <nil>
	// resolver: target "discovery:///greeter?region=eu": unknown option "region": the options are authority, version, zone
}
