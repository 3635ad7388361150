package resolver

import (
	"math/bits"
	"slices"

	"google.golang.org/grpc/experimental/balancer/weight"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/registry"
)

// state is what gRPC gets for a set of instances. Policies read its Endpoints;
// those that read its Addresses know nothing of draining.
func state(instances []registry.Instance, serverName func(registry.Instance) string) gresolver.State {
	s := gresolver.State{Endpoints: make([]gresolver.Endpoint, 0, len(instances))}
	shift := excess(instances)
	for _, inst := range instances {
		ep := gresolver.Endpoint{Addresses: make([]gresolver.Address, 0, len(inst.Addrs))}
		for _, addr := range inst.Addrs {
			ep.Addresses = append(ep.Addresses, gresolver.Address{Addr: addr, ServerName: serverName(inst)})
		}
		ep = endpoint.Set(ep, inst)
		if shift > 0 {
			ep = weight.Set(ep, weight.EndpointInfo{Weight: max(1, inst.EffectiveWeight()>>shift)})
		}
		s.Endpoints = append(s.Endpoints, ep)
	}
	for _, inst := range wanting(instances) {
		s.Addresses = append(s.Addresses, gresolver.Address{Addr: inst.Addrs[0], ServerName: serverName(inst)})
	}
	return s
}

// wanting are the instances that want calls; all, if none does.
func wanting(instances []registry.Instance) []registry.Instance {
	up := slices.DeleteFunc(slices.Clone(instances), func(inst registry.Instance) bool { return inst.Status == registry.Draining })
	if len(up) == 0 {
		return instances
	}
	return up
}

// excess is by how many bits the weights are too large for gRPC's ring_hash, which
// adds them up in 32 bits and does not end when the sum wraps around. rollcall's
// own policy reads them from the instances.
func excess(instances []registry.Instance) (shift int) {
	var sum uint64
	for _, inst := range instances {
		sum += uint64(inst.EffectiveWeight())
	}
	if sum>>32 == 0 {
		return 0
	}
	return bits.Len64(sum>>32) + 1 // one more, for those rounded up to 1
}
