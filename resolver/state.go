package resolver

import (
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/registry"
)

// state is what gRPC gets for a set of instances. Policies read its Endpoints;
// those that read its Addresses know nothing of draining, so the addresses are
// those of the instances that want calls, if there are any.
func state(instances []registry.Instance, serverName func(registry.Instance) string) gresolver.State {
	s := gresolver.State{Endpoints: make([]gresolver.Endpoint, 0, len(instances))}
	var draining []gresolver.Address
	for _, inst := range instances {
		ep := gresolver.Endpoint{Addresses: make([]gresolver.Address, 0, len(inst.Addrs))}
		for _, addr := range inst.Addrs {
			ep.Addresses = append(ep.Addresses, gresolver.Address{Addr: addr, ServerName: serverName(inst)})
		}
		s.Endpoints = append(s.Endpoints, endpoint.Set(ep, inst))
		if inst.Status == registry.Draining {
			draining = append(draining, ep.Addresses[0])
		} else {
			s.Addresses = append(s.Addresses, ep.Addresses[0])
		}
	}
	if len(s.Addresses) == 0 {
		s.Addresses = draining
	}
	return s
}
