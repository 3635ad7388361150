package memory_test

import (
	"context"
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
)

// A program that runs client and server together needs no registry server:
// both are given the same memory.Registry. Whoever watches learns of a change
// at once.
func Example() {
	ctx := context.Background()
	reg := memory.New()
	defer reg.Close()

	watcher, err := reg.Watch(ctx, "greeter")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = watcher.Next(ctx)
	fmt.Println(err)

	server, err := reg.Register(ctx, registry.Instance{
		Service: "greeter", ID: "greeter-1", Addrs: []string{"127.0.0.1:9000"}, Weight: 5,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	snap, err := watcher.Next(ctx)
	fmt.Println(snap.Instances[0].ID, snap.Instances[0].Weight, err)

	fmt.Println(server.Deregister(ctx))
	// Output:
	// memory: "greeter": service unknown to the registry
	// greeter-1 5 <nil>
	// <nil>
}
