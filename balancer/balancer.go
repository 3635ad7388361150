// Package balancer is the gRPC load balancing policy "rollcall". It keeps a
// connection to every endpoint that the resolver names and picks one of the
// ready ones for each call. Importing the package registers the policy; a
// service config switches it on:
//
//	grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.WeightedRoundRobin{}))
//
// # Pickers
//
// Which instance a call goes to is decided by a picker:
//
//	random                each at random, in proportion to its weight
//	round_robin           each in turn, whatever the weights
//	weighted_round_robin  each in turn, as often as its weight says, spread evenly (the default)
//	p2c                   of two, drawn by weight, who will probably answer sooner
//	least_request         of some, drawn by weight, who has the fewest calls in hand for it
//
// With equal weights weighted_round_robin is round_robin, which is why it is the
// default. Weights are those of the registry (package endpoint), or those that
// another resolver sets with gRPC's own weight attribute, or 1.
//
// The policy is one to gRPC, whichever picker it uses: another picker, and
// another weight, take effect at once and close no connection. Nor is anything
// forgotten that concerns an instance which stays. An instance is its ID and its
// Life: a restarted one is another one.
//
// # Features
//
// They work with every picker, alone and together, and are switched on, changed
// and off like pickers:
//
//	WithStallDetection  who keeps its connection and answers nothing gets no calls (on by default)
//	WithEjection        whose calls fail gets none for a while
//	WithSlowStart       the share of a new process grows over a time
//	WithZone            calls stay in the client's own zone as far as it can bear them
//	WithSubset          this client connects to some of the instances only
//
// # What is never picked
//
// A connection that is known not to be ready is never picked. An instance that
// drains, or whose answers say that its server closes (package drain), gets no
// new calls as long as another one is ready; calls in hand go on. Then come, from
// bad to worse, who fails or is stalled, and whom the call's record (package pick)
// asks to avoid; who is better is picked as long as there is anybody. A record may
// also order one instance, which weighs more than everything else.
//
// An instance that its server's answers have called closing and that is connected
// again is tried with a few calls before it has its share back.
//
// When no instance is ready and all have failed to connect, calls fail with an
// error that says which instances are known and why each cannot be connected, or
// why none is known. Wait-for-ready calls wait.
//
// # What gRPC throws away
//
// A channel without calls for 30 minutes closes its connections, this policy
// included, and starts afresh with the next call: what is lost by that is the
// position in the rotation, the closing marks, which instances were ejected,
// stalled or starting slowly, and their latency. The configuration stays, and so
// does the subset. grpc.WithIdleTimeout(0) switches it off.
//
// # Metrics
//
// The policy records rollcall.balancer.picks, .ejections, .instances and .set_age
// through gRPC's registry of metrics (gRFC A79), so a stats plugin such as
// google.golang.org/grpc/stats/opentelemetry exports them. Nothing is counted per
// pick before somebody collects.
package balancer

import (
	"encoding/json"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/endpoint"
)

// Name is the name of the policy in a service config.
const Name = endpoint.Policy

func init() { gbalancer.Register(builder{}) }

type builder struct{}

func (builder) Name() string { return Name }

func (builder) Build(cc gbalancer.ClientConn, opts gbalancer.BuildOptions) gbalancer.Balancer {
	return newEngine(cc, opts)
}

func (builder) ParseConfig(js json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	return parseConfig(js)
}
