package endpoint_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/experimental/balancer/weight"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/ringhash"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/registry"
)

func instance() registry.Instance {
	return registry.Instance{
		Service: "greeter", ID: "a", Life: "f00d", Addrs: []string{"10.0.0.1:9000"}, Weight: 3, Zone: "eu-1",
		Metadata: map[string]string{"team": "blue"},
	}
}

func bare() gresolver.Endpoint {
	return gresolver.Endpoint{Addresses: []gresolver.Address{{Addr: "10.0.0.1:9000"}}}
}

func TestInstanceRidesOnTheEndpoint(t *testing.T) {
	got, ok := endpoint.From(endpoint.Set(bare(), instance()))
	if !ok || !got.Equal(instance()) {
		t.Errorf("From: %+v, %v", got, ok)
	}
	if got, ok := endpoint.From(bare()); ok {
		t.Errorf("From of another resolver's endpoint: %+v", got)
	}
}

func TestSetLeavesTheOriginalAlone(t *testing.T) {
	ep := bare()
	endpoint.Set(ep, instance())
	if _, ok := endpoint.From(ep); ok || ep.Attributes != nil {
		t.Error("Set changed its argument")
	}
}

// gRPC compares attributes at every update of a resolver. It must see new
// content, must not see new times, and must not panic over the map in there.
func TestAttributesAreEqualWhenTheContentIs(t *testing.T) {
	for what, test := range map[string]struct {
		change func(*registry.Instance)
		equal  bool
	}{
		"nothing":             {func(*registry.Instance) {}, true},
		"the weight":          {func(i *registry.Instance) { i.Weight = 9 }, false},
		"the status":          {func(i *registry.Instance) { i.Status = registry.Draining }, false},
		"the zone":            {func(i *registry.Instance) { i.Zone = "eu-2" }, false},
		"the life":            {func(i *registry.Instance) { i.Life = "beef" }, false},
		"the metadata":        {func(i *registry.Instance) { i.Metadata = map[string]string{"team": "red"} }, false},
		"the metadata's map":  {func(i *registry.Instance) { i.Metadata = map[string]string{"team": "blue"} }, true},
		"no metadata":         {func(i *registry.Instance) { i.Metadata = nil }, false},
		"when it was renewed": {func(i *registry.Instance) { i.LastRenewed = i.LastRenewed.Add(1) }, true},
	} {
		other := instance()
		test.change(&other)
		one, two := endpoint.Set(bare(), instance()), endpoint.Set(bare(), other)
		if got := one.Attributes.Equal(two.Attributes); got != test.equal {
			t.Errorf("another %s: equal is %v, want %v", what, got, test.equal)
		}
	}
	if endpoint.Set(bare(), instance()).Attributes.Equal(weight.Set(bare(), weight.EndpointInfo{Weight: 3}).Attributes) {
		t.Error("equal to an endpoint without an instance")
	}
}

// A change in an address's own attributes would make a new connection.
func TestWeightChangeLeavesAddressesAlone(t *testing.T) {
	heavier := instance()
	heavier.Weight = 9
	before, after := endpoint.Set(bare(), instance()), endpoint.Set(bare(), heavier)
	if before.Attributes.Equal(after.Attributes) {
		t.Error("the new weight cannot be seen on the endpoint")
	}
	for i := range before.Addresses {
		if !after.Addresses[i].Equal(before.Addresses[i]) || !after.Addresses[i].Equal(bare().Addresses[i]) {
			t.Errorf("address %d became %+v", i, after.Addresses[i])
		}
	}
}

func TestOtherPoliciesFindTheWeight(t *testing.T) {
	for given, want := range map[uint32]uint32{0: 1, 1: 1, 7: 7} {
		inst := instance()
		inst.Weight = given
		if got := weight.FromEndpoint(endpoint.Set(bare(), inst)).Weight; got != want {
			t.Errorf("for weight %d ring_hash and pick_first see %d, want %d", given, got, want)
		}
	}
}

// The place on the ring must outlast restarts and moves: whoever was sent a
// request is sent it again.
func TestRingHashFindsTheSamePlaceAfterARestart(t *testing.T) {
	restarted := instance()
	restarted.Life = "beef"
	moved := gresolver.Endpoint{Addresses: []gresolver.Address{{Addr: "10.0.0.2:9000"}}}
	before := ringhash.HashKey(endpoint.Set(bare(), instance()))
	after := ringhash.HashKey(endpoint.Set(moved, restarted))
	if before != instance().ID || after != before {
		t.Errorf("the key was %q and is %q, want the ID %q", before, after, instance().ID)
	}
}

func TestReasonRidesOnTheState(t *testing.T) {
	empty := gresolver.State{}
	if got := endpoint.Reason(empty); got != "" {
		t.Errorf("a state without a reason has %q", got)
	}
	state := endpoint.SetReason(empty, "no such service")
	state = endpoint.SetReason(state, "no registry answers") // the later one counts
	if got := endpoint.Reason(state); got != "no registry answers" {
		t.Errorf("the reason is %q", got)
	}
	if empty.Attributes != nil {
		t.Error("SetReason changed its argument")
	}
}

// A resolver sets what a balancing policy reads.
func Example() {
	ep := gresolver.Endpoint{Addresses: []gresolver.Address{{Addr: "10.0.0.1:9000"}}}
	ep = endpoint.Set(ep, registry.Instance{Service: "greeter", ID: "greeter-1", Weight: 5})

	inst, ok := endpoint.From(ep)
	fmt.Println(inst.ID, inst.Weight, ok)
	// Output: greeter-1 5 true
}
