package httpregistry

import (
	"testing"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

func TestContract(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registrytest.Backend {
		const addr = "10.0.0.1:6666"
		n := newNetwork(t)
		n.registry(addr)
		return registrytest.Backend{
			Client: func() (registry.Registry, error) { return New([]string{addr}, WithHTTPClient(n.http())) },
			Stop:   func() { n.kill(addr) },
			Start:  func() { n.registry(addr) },
		}
	})
}
