package bench

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/internal/fakecc"
	"github.com/rollcall-go/rollcall/registry"
)

// settle is longer than any policy puts a change off.
const settle = 10 * time.Millisecond

// bed is a policy on a ClientConn without a network.
type bed struct {
	gbalancer.Balancer
	policy policy
	cc     *fakecc.ClientConn
	config serviceconfig.LoadBalancingConfig
}

func newBed(tb testing.TB, p policy, cc gbalancer.ClientConn, fake *fakecc.ClientConn) *bed {
	tb.Helper()
	if p.enter != nil {
		p.enter()
	}
	return &bed{Balancer: gbalancer.Get(p.policy).Build(cc, gbalancer.BuildOptions{}), policy: p, cc: fake, config: p.parsed(tb)}
}

// parsed is the policy's configuration, if it has one.
func (p policy) parsed(tb testing.TB) serviceconfig.LoadBalancingConfig {
	tb.Helper()
	if p.config == "" {
		return nil
	}
	cfg, err := gbalancer.Get(p.policy).(gbalancer.ConfigParser).ParseConfig(json.RawMessage(p.config))
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

func (bed *bed) update(tb testing.TB, s gresolver.State) {
	if err := bed.UpdateClientConnState(gbalancer.ClientConnState{BalancerConfig: bed.config, ResolverState: s}); err != nil {
		tb.Fatal(err)
	}
}

// bringUp resolves a set and connects its endpoints one after another.
func (bed *bed) bringUp(tb testing.TB, s gresolver.State) {
	bed.update(tb, s)
	for _, sc := range bed.cc.SubConns() {
		sc.Ready()
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

// ready returns the policy with n ready endpoints. It is closed at the end of tb.
func ready(tb testing.TB, p policy, n int) *bed {
	tb.Helper()
	fake := new(fakecc.ClientConn)
	var cc gbalancer.ClientConn = inTurn{fake}
	if p.square {
		cc = fake
	}
	bed := newBed(tb, p, cc, fake)
	tb.Cleanup(bed.Close)
	if p.square {
		bed.bringUp(tb, p.resolved(n))
	} else {
		bed.update(tb, p.resolved(n))
		fake.Newest().Ready()
	}
	if p.learn != nil {
		p.learn(tb, bed)
	}
	time.Sleep(settle)
	return bed
}

// zones are those of one instance after the other: most are in the client's own.
var zones = [...]string{"own", "own", "own", "own", "own", "own", "own", "own", "own", "other"}

// resolved returns what a resolver makes of n instances with weights from 1 to 5,
// fresh every time.
func (p policy) resolved(n int) gresolver.State {
	var s gresolver.State
	for i := range n {
		p.add(&s, i, i, "1", uint32(1+i%5))
	}
	return s
}

// add puts an instance into place at of the state, or at its end.
func (p policy) add(s *gresolver.State, at, i int, life string, weight uint32) {
	addr := gresolver.Address{Addr: fmt.Sprintf("10.%d.%d.%d:9000", i>>16&255, i>>8&255, i&255)}
	if p.address != nil {
		addr = p.address(addr, weight)
	}
	ep := endpoint.Set(gresolver.Endpoint{Addresses: []gresolver.Address{addr}}, registry.Instance{
		Service: "echo", ID: fmt.Sprintf("echo-%05d", i), Life: life, Addrs: []string{addr.Addr}, Weight: weight,
		Zone: zones[i%len(zones)], Version: "1.2.3", Metadata: map[string]string{"commit": "0123456"},
	})
	if at < len(s.Endpoints) {
		s.Endpoints[at], s.Addresses[at] = ep, addr
		return
	}
	s.Endpoints, s.Addresses = append(s.Endpoints, ep), append(s.Addresses, addr)
}
