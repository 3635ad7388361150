// Command client calls "greeter", wherever it runs.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/timeout"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/examples/internal/cli"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
	"github.com/rollcall-go/rollcall/resolver"
)

func main() {
	nodes := flag.String("registry", cli.DefaultRegistry, "addresses of the registry")
	flag.Parse()
	ctx := context.Background()

	reg := must(httpregistry.New(cli.List(*nodes)))
	conn := must(grpc.NewClient("discovery:///greeter",
		grpc.WithResolvers(resolver.NewBuilder(reg)),
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.WeightedRoundRobin{})),
		grpc.WithChainUnaryInterceptor(
			timeout.UnaryClientInterceptor(time.Second), // of go-grpc-middleware, like all that surrounds it
			failmode.UnaryClientInterceptor(failmode.Failover)),
		grpc.WithTransportCredentials(insecure.NewCredentials())))
	resp, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.GetRequest{Key: "world"})

	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.GetValue())
	if err := conn.Close(); err != nil {
		log.Fatal(err)
	}
	if err := reg.Close(); err != nil {
		log.Fatal(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
