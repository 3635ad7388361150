package registrytest_test

import (
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// faulty is a backend in memory that can be stopped.
func faulty(*testing.T) registrytest.Backend {
	var (
		mu    sync.Mutex // guards all below
		store = memory.New()
		fault registrytest.Fault
		all   []*registrytest.Faulty
	)
	set := func(f registrytest.Fault) func() {
		return func() {
			mu.Lock()
			defer mu.Unlock()
			fault = f
			for _, client := range all {
				client.Set(f)
			}
		}
	}
	return registrytest.Backend{
		Client: func() (registry.Registry, error) {
			mu.Lock()
			defer mu.Unlock()
			client := registrytest.NewFaulty(store.Client())
			client.Set(fault)
			all = append(all, client)
			return client, nil
		},
		Stop:  set(registrytest.Fault{Down: true}),
		Start: set(registrytest.Fault{}),
	}
}

func TestFaultyKeepsTheContract(t *testing.T) { registrytest.Run(t, faulty) }
