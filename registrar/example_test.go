package registrar_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc"

	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
)

// A whole server: it is registered while it serves, and SIGTERM takes it down
// without losing a call.
func Example() {
	reg := memory.New() // or httpregistry.New
	defer reg.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, sigterm := context.WithCancel(context.Background()) // it ends like that, for once
	r := registrar.New(reg, registry.Instance{Service: "greeter", Weight: 10},
		registrar.WithDrainDelay(10*time.Millisecond),
		registrar.WithStateObserver(func(s registrar.State) {
			fmt.Println(s)
			if s == registrar.StateRegistered {
				sigterm()
			}
		}),
	)
	srv := grpc.NewServer(r.ServerOptions()...)
	echov1.RegisterEchoServer(srv, echov1.UnimplementedEchoServer{})

	if err := registrar.Run(ctx, r, srv, lis); err != nil {
		log.Fatal(err)
	}
	// Output:
	// listening
	// registered
	// draining
	// closing
	// stopped
}

// A program that has its own way with signals, and a server with two listeners.
func ExampleRegistrar_Start() {
	reg := memory.New()
	defer reg.Close()
	r := registrar.New(reg, registry.Instance{Service: "greeter"}, registrar.WithDrainDelay(10*time.Millisecond))
	srv := grpc.NewServer(r.ServerOptions()...)
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	private, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go srv.Serve(public)
	go srv.Serve(private)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := r.Start(ctx, public.Addr().String(), srv); err != nil {
		log.Fatal(err)
	}
	stop() // instead of a signal
	<-ctx.Done()

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	fmt.Println(r.Shutdown(ctx), r.State())
	// Output: <nil> stopped
}

// A stream that would not end by itself ends politely when the server drains.
func ExampleDraining() {
	chat := func(stream grpc.BidiStreamingServer[echov1.ChatRequest, echov1.ChatResponse], messages <-chan string) error {
		for {
			select {
			case m := <-messages:
				if err := stream.Send(&echov1.ChatResponse{Message: m}); err != nil {
					return err
				}
			case <-registrar.Draining(stream.Context()):
				return nil // the client opens a new stream, on another server
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
	}
	_ = chat
}
