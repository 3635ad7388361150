package memory_test

import (
	"testing"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

func TestContract(t *testing.T) {
	registrytest.Run(t, func(*testing.T) registrytest.Backend {
		store := memory.New()
		return registrytest.Backend{Client: func() (registry.Registry, error) { return store.Client(), nil }}
	})
}
