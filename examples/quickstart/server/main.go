// Command server is a gRPC server that clients find by the name "greeter". Start
// as many as you like.
package main

import (
	"context"
	"flag"
	"log"
	"net"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/examples/internal/cli"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
)

type greeter struct{ echov1.UnimplementedEchoServer }

func (greeter) Get(_ context.Context, req *echov1.GetRequest) (*echov1.GetResponse, error) {
	return &echov1.GetResponse{Value: "hello " + req.GetKey()}, nil
}

func main() {
	nodes := flag.String("registry", cli.DefaultRegistry, "addresses of the registry")
	flag.Parse()

	reg := must(httpregistry.New(cli.List(*nodes)))
	r := registrar.New(reg, registry.Instance{Service: "greeter", Weight: 10})
	srv := grpc.NewServer(r.ServerOptions()...)
	echov1.RegisterEchoServer(srv, greeter{})
	lis := must(net.Listen("tcp", "127.0.0.1:0"))
	err := registrar.Run(context.Background(), r, srv, lis) // until SIGTERM, and then in order

	if err != nil {
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
