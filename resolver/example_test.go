package resolver_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"sync"

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

// How calls are balanced, and how long they may take, changes while channels are in
// use. What gRPC refuses changes nothing.
func ExampleWithServiceConfig() {
	reg := memory.New()
	defer reg.Close()
	var config resolver.ServiceConfig
	conn, err := grpc.NewClient("discovery:///greeter",
		grpc.WithResolvers(resolver.NewBuilder(reg, resolver.WithServiceConfig(&config))),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	fmt.Println(config.Set(`{
		"loadBalancingConfig": [{"round_robin": {}}],
		"methodConfig": [{"name": [{"service": "shop.Orders"}], "timeout": "1s"}]
	}`))
	fmt.Println(config.Set(`{
		"methodConfig": [{"name": [{"service": "shop.Orders"}], "timeout": "2s"}],
		"retryThrottling": {"maxTokens": 9000, "tokenRatio": 1}
	}`))
	// Output:
	// <nil>
	// resolver: gRPC refuses the service config: invalid retry throttling config: maxTokens (9000) out of range (0, 1000]
}

// The service config is in a file, such as a mounted ConfigMap, and follows its
// changes.
func ExampleServiceConfig_FollowFile() {
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	var config resolver.ServiceConfig // for WithServiceConfig
	following.Go(func() {
		config.FollowFile(ctx, "/etc/greeter/service-config.json", func(err error) { log.Print(err) })
	})
	// Make channels and calls.
	cancel()
	following.Wait()
}

// A program that is given a target checks it at start.
func ExampleValidateTarget() {
	fmt.Println(resolver.ValidateTarget("discovery:///greeter?zone=a"))
	fmt.Println(resolver.ValidateTarget("discovery:///greeter?region=eu"))
	// Output:
	// <nil>
	// resolver: target "discovery:///greeter?region=eu": unknown option "region": the options are authority, version, zone
}
