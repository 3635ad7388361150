package registrytest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// The test of a backend: how to open it, and that is all.
func ExampleRun() {
	_ = func(t *testing.T) { // TestContract
		registrytest.Run(t, func(t *testing.T) registrytest.Backend {
			store := memory.New()
			return registrytest.Backend{
				Client: func() (registry.Registry, error) { return store.Client(), nil },
			}
		})
	}
}

// What becomes of a client when its registry cannot be reached?
func ExampleFaulty() {
	ctx := context.Background()
	store := memory.New()
	reg := registrytest.NewFaulty(store)
	defer reg.Close()
	server := registry.Instance{Service: "greeter", ID: "greeter-1", Addrs: []string{"10.0.0.1:9000"}}
	if _, err := reg.Register(ctx, server); err != nil {
		fmt.Println(err)
		return
	}

	snap, err := reg.Fetch(ctx, "greeter")
	fmt.Println(len(snap.Instances), snap.Confirmed, err)
	reg.Set(registrytest.Fault{Down: true})
	snap, err = reg.Fetch(ctx, "greeter")
	fmt.Println(len(snap.Instances), snap.Confirmed, err)
	_, err = reg.Fetch(ctx, "another")
	fmt.Println(err)
	// Output:
	// 1 true <nil>
	// 1 false <nil>
	// registrytest: faulty: no registry node answers
}
