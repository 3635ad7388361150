package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"testing"
	"time"

	orcav3 "github.com/cncf/xds/go/xds/data/orca/v3"
	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/balancer/weightedroundrobin"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/internal/fakecc"
	"github.com/rollcall-go/rollcall/registry"
)

// policy is one way of balancing, as gRPC knows it.
type policy struct {
	name   string // in the benchmark's name
	policy string // as registered with gRPC
	config string
	// learn does what the policy needs to know before it balances as it should.
	learn func(b *testing.B, bed *bed)
	// most is how many connections are brought up when -slow is not given: it
	// takes these policies time in proportion to the square.
	most int
	// locks says that the policy holds a lock while it makes a connection, so that
	// others cannot become ready meanwhile.
	locks bool
}

var slow = flag.Bool("slow", false, "also measure what takes a minute")

var policies = []policy{
	{name: "rollcall.random", policy: balancer.Name, config: `{"picker":{"random":{}}}`},
	{name: "rollcall.round_robin", policy: balancer.Name, config: `{"picker":{"round_robin":{}}}`},
	{name: "rollcall.weighted_round_robin", policy: balancer.Name, config: `{"picker":{"weighted_round_robin":{}}}`},
	{name: "grpc.round_robin", policy: roundrobin.Name, most: 1000},
	{name: "grpc.weighted_round_robin", policy: weightedroundrobin.Name, most: 1000, locks: true,
		config: `{"blackoutPeriod":"0s","weightUpdatePeriod":"0.1s"}`, learn: reportLoads},
}

// bed is a policy on a ClientConn without a network.
type bed struct {
	gbalancer.Balancer
	cc     *fakecc.ClientConn
	config serviceconfig.LoadBalancingConfig
}

func newBed(b *testing.B, p policy, cc gbalancer.ClientConn, fake *fakecc.ClientConn) *bed {
	b.Helper()
	builder := gbalancer.Get(p.policy)
	bed := &bed{Balancer: builder.Build(cc, gbalancer.BuildOptions{}), cc: fake}
	if p.config != "" {
		cfg, err := builder.(gbalancer.ConfigParser).ParseConfig(json.RawMessage(p.config))
		if err != nil {
			b.Fatal(err)
		}
		bed.config = cfg
	}
	return bed
}

func (bed *bed) update(b *testing.B, endpoints []gresolver.Endpoint) {
	state := gresolver.State{Endpoints: endpoints}
	if err := bed.UpdateClientConnState(gbalancer.ClientConnState{BalancerConfig: bed.config, ResolverState: state}); err != nil {
		b.Fatal(err)
	}
}

// inTurn makes each connection ready when the next one is made: while a policy is
// taking over a set. That spares set-ups the square of policies that make a new
// picker for every connection that becomes ready at another time.
type inTurn struct{ *fakecc.ClientConn }

func (cc inTurn) NewSubConn(addrs []gresolver.Address, opts gbalancer.NewSubConnOptions) (gbalancer.SubConn, error) {
	if cc.Created() > 0 {
		cc.Newest().Ready()
	}
	return cc.ClientConn.NewSubConn(addrs, opts)
}

// ready returns the policy with n ready endpoints. It is closed at the end of b.
func ready(b *testing.B, p policy, n int) *bed {
	b.Helper()
	fake := new(fakecc.ClientConn)
	if p.locks {
		if n > p.most && !*slow {
			b.Skip("takes a minute: run with -args -slow")
		}
		bed := newBed(b, p, fake, fake)
		b.Cleanup(bed.Close)
		bed.bringUp(b, n)
		p.learn(b, bed)
		return bed
	}
	bed := newBed(b, p, inTurn{fake}, fake)
	b.Cleanup(bed.Close)
	bed.update(b, endpoints(n))
	fake.Newest().Ready()
	time.Sleep(20 * time.Millisecond) // what is put off is published
	return bed
}

// bringUp resolves n endpoints and connects them one after another.
func (bed *bed) bringUp(b *testing.B, n int) {
	bed.update(b, endpoints(n))
	for _, sc := range bed.cc.SubConns() {
		sc.Ready()
	}
}

// endpoints returns what a resolver makes of n instances with weights from 1 to
// 5, fresh every time.
func endpoints(n int) []gresolver.Endpoint {
	eps := make([]gresolver.Endpoint, n)
	for i := range eps {
		eps[i] = endpointOf(i, "1", uint32(1+i%5))
	}
	return eps
}

func endpointOf(i int, life string, weight uint32) gresolver.Endpoint {
	addr := fmt.Sprintf("10.%d.%d.%d:9000", i>>16&255, i>>8&255, i&255)
	inst := registry.Instance{
		Service: "echo", ID: fmt.Sprintf("echo-%05d", i), Life: life, Addrs: []string{addr}, Weight: weight,
		Zone: "a", Version: "1.2.3", Metadata: map[string]string{"commit": "0123456"},
	}
	return endpoint.Set(gresolver.Endpoint{Addresses: []gresolver.Address{{Addr: addr}}}, inst)
}

// reportLoads lets every connection report a load from which grpc-go's weighted
// round robin computes its weights, and waits until it has.
func reportLoads(b *testing.B, bed *bed) {
	picker := bed.cc.State().Picker
	for i := range len(bed.cc.SubConns()) {
		result, err := picker.Pick(gbalancer.PickInfo{Ctx: b.Context()})
		if err != nil {
			b.Fatal(err)
		}
		result.Done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true, ServerLoad: &orcav3.OrcaLoadReport{
			ApplicationUtilization: 0.5, RpsFractional: float64(100 * (1 + i%5)),
		}})
	}
	time.Sleep(300 * time.Millisecond) // its update period is 100 ms
}
