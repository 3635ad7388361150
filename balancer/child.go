package balancer

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/balancer/weight"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/registry"
)

// member is what the policy reads from an endpoint.
type member struct {
	id, life   string
	weight     uint32 // at least 1
	draining   bool
	zone       string
	registered time.Time           // by the registry's clock
	addrs      []gresolver.Address // at least one
}

// memberOf reads ep. Without an instance it is known by its addresses.
func memberOf(ep gresolver.Endpoint) member {
	if inst, ok := endpoint.From(ep); ok {
		return member{
			id: inst.ID, life: inst.Life, addrs: ep.Addresses,
			weight: inst.EffectiveWeight(), draining: inst.Status == registry.Draining,
			zone: inst.Zone, registered: inst.FirstRegistered,
		}
	}
	return member{id: addrList(ep.Addresses), addrs: ep.Addresses, weight: max(1, weight.FromEndpoint(ep).Weight)}
}

func (m *member) is(id, life string) bool { return m.id == id && m.life == life }

func addrList(addrs []gresolver.Address) string {
	if len(addrs) == 1 {
		return addrs[0].Addr
	}
	names := make([]string, len(addrs))
	for i, a := range addrs {
		names[i] = a.Addr
	}
	return strings.Join(names, ",")
}

// sameAddr says whether both lead to the same connection. It compares what
// pick_first compares.
func sameAddr(a, b gresolver.Address) bool {
	return a.Addr == b.Addr && a.ServerName == b.ServerName && a.Attributes.Equal(b.Attributes)
}

// child is an instance and its connection: a pick_first policy of its own, to
// which it is the ClientConn. Another Life of the same ID is another child.
type child struct {
	// The engine's mu guards these. What it reads of all children when one changes
	// stands together, in as few cache lines as it fits.
	member
	round   uint64 // the last resolver state that named it
	edition uint64 // the last snapshot that had conn in its schedule
	state   connectivity.State
	conn    *conn // nil before it was READY
	tally   *tally
	gone    bool   // no resolver state names it any more
	why     string // why it is in TRANSIENT_FAILURE, shortened

	health    health
	answered  uint32        // answers that were collected from the tally
	answers   *answers      // nil before ejection was on
	column    uint16        // in answers
	connected time.Duration // when it was READY first; 0 before
	gained    time.Duration // when it became READY last
	isNew     bool          // to the registry and this client, so that it may start slowly
	distant   bool          // its zone is not needed
	factor    float64       // of its share, for its zone and its age

	closing atomic.Bool // its server said so

	gbalancer.ClientConn
	engine *engine

	// mu is held while pick_first is called; it calls back, so the engine's mu
	// comes after it.
	mu        sync.Mutex
	pickFirst gbalancer.Balancer // nil before start and after close
	address   string             // address that became ready last; written in pick_first's callbacks
}

// update gives pick_first the addresses. The first call starts it.
func (c *child) update() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pickFirst == nil {
		c.pickFirst = c.engine.pickFirst.Build(c, c.engine.opts)
	}
	// Its only errors are about an empty list and a configuration, and it gets neither.
	_ = c.pickFirst.UpdateClientConnState(gbalancer.ClientConnState{ResolverState: gresolver.State{
		Endpoints:  []gresolver.Endpoint{{Addresses: c.addrs}},
		Attributes: c.engine.pickFirstAttributes,
	}})
}

// exitIdle makes pick_first connect if it does not.
func (c *child) exitIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pickFirst != nil {
		c.pickFirst.ExitIdle()
	}
}

// close shuts the connection; calls on it are finished.
func (c *child) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pickFirst != nil {
		c.pickFirst.Close()
		c.pickFirst = nil
	}
}

// UpdateState is pick_first's callback. Its picker is asked at once for what it
// returns always: the connection when READY, the error when in TRANSIENT_FAILURE.
// In other states it is not, because there asking has effects.
func (c *child) UpdateState(s gbalancer.State) {
	var why string
	var result gbalancer.PickResult
	if s.ConnectivityState == connectivity.Ready || s.ConnectivityState == connectivity.TransientFailure {
		var err error
		if result, err = s.Picker.Pick(gbalancer.PickInfo{Ctx: context.Background()}); err != nil {
			why = shorten(err.Error())
		}
	}
	c.engine.childChanged(c, s.ConnectivityState, result.SubConn, why)
}

// NewSubConn notes on the way which address a connection is for.
func (c *child) NewSubConn(addrs []gresolver.Address, opts gbalancer.NewSubConnOptions) (gbalancer.SubConn, error) {
	notify := opts.StateListener
	opts.StateListener = func(s gbalancer.SubConnState) {
		if s.ConnectivityState == connectivity.Ready {
			c.address = addrs[0].Addr
		}
		notify(s)
	}
	//lint:ignore SA1019 Only calling it is deprecated; pick_first calls it, with one address.
	return c.ClientConn.NewSubConn(addrs, opts)
}
