package httpregistry

import (
	"testing"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registryserver"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

func TestContract(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend {
		const addr = "10.0.0.1:6666"
		n := newNetwork(t)
		start := func() { n.registry(addr, registryserver.WithExpiry(registryserver.DefaultExpiry())) }
		start()
		return registrytest.Backend{
			Client: func() (registry.Registry, error) { return New([]string{addr}, WithHTTPClient(n.http())) },
			Stop:   func() { n.kill(addr) },
			Start:  start,
		}
	})
}
