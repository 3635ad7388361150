// Package endpoint is where resolver and balancer meet: the registry's instance
// rides on the gRPC endpoint that was made from it.
package endpoint

import (
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/experimental/balancer/weight"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/ringhash"

	"github.com/rollcall-go/rollcall/registry"
)

// Policy is the name of the balancing policy that reads what is set here. A
// resolver may ask gRPC's registry of policies whether the program has it.
const Policy = "rollcall"

type instanceKey struct{}

// carried lets attributes compare instances: a bare struct with a map in it
// panics there.
type carried struct{ instance registry.Instance }

func (c carried) Equal(o any) bool {
	other, ok := o.(carried)
	return ok && c.instance.Equal(other.instance)
}

// Set returns ep with the instance it was made from. The instance goes into the
// endpoint's attributes, never into an address's: there, a change of weight
// would make a new connection.
//
// What gRPC's own policies look for is set too. The weight, for ring_hash and
// pick_first: ring_hash adds up those of all endpoints in 32 bits, so whoever sets
// very large ones scales them. And the key that places the endpoint on the ring of
// ring_hash: the ID. A process that starts again under its ID, at whatever
// address, keeps its place and with it the requests it was sent before; by its
// Life or its address, every restart would move them.
func Set(ep gresolver.Endpoint, inst registry.Instance) gresolver.Endpoint {
	ep = weight.Set(ep, weight.EndpointInfo{Weight: inst.EffectiveWeight()})
	ep = ringhash.SetHashKey(ep, inst.ID)
	ep.Attributes = ep.Attributes.WithValue(instanceKey{}, carried{inst})
	return ep
}

// From returns the instance that ep was made from; ok is false when another
// resolver made it.
func From(ep gresolver.Endpoint) (inst registry.Instance, ok bool) {
	c, ok := ep.Attributes.Value(instanceKey{}).(carried)
	return c.instance, ok
}

type reasonKey struct{}

// SetReason returns state with the reason why it has no endpoints, for the
// policy to show in the error of calls.
func SetReason(state gresolver.State, reason string) gresolver.State {
	if state.Attributes == nil {
		state.Attributes = attributes.New(reasonKey{}, reason)
	} else {
		state.Attributes = state.Attributes.WithValue(reasonKey{}, reason)
	}
	return state
}

// Reason returns the reason that SetReason put into state, or "".
func Reason(state gresolver.State) string {
	reason, _ := state.Attributes.Value(reasonKey{}).(string)
	return reason
}
