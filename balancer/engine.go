package balancer

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/attributes"
	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/endpoint"
)

// engine is the policy: it keeps one child per instance, knows which are ready,
// and gives gRPC the picker.
//
// gRPC calls its methods one after another, children call back from anywhere, and
// picks run beside all that without a lock.
type engine struct {
	cc                  gbalancer.ClientConn
	opts                gbalancer.BuildOptions
	pickFirst           gbalancer.Builder
	pickFirstAttributes *attributes.Attributes
	picker              picker
	position            position

	// mu guards all below. A child calls back while its own mu (and pick_first's)
	// is held, so the order is child.mu, pick_first, mu, gRPC's ClientConn: under
	// mu the ClientConn's UpdateState is called, so that states are not reordered,
	// and never a child.
	mu       sync.Mutex
	config   *config
	children map[string][]*child // by ID; two while a process replaces another one
	order    []*child            // in the order in which the resolver first named them
	closed   lives               // that said that they close
	met      lives               // that were connected and are no longer named
	round    uint64              // counts resolver states
	// Why there are no children, and what the resolver's last error was since the
	// last state.
	reason, resolverErr string

	count       [connectivity.Shutdown + 1]int // children by state
	published   connectivity.State             // what gRPC was told last
	unpublished bool                           // something has changed that waiting calls must see
	timer       *time.Timer                    // publishes what was put off; nil if nothing was
	shut        bool

	edition uint64 // counts snapshots
	lost    int    // connections in the snapshot's schedule that are no longer ready
	stale   bool   // another change that the snapshot does not show
	worst   uint32 // the worst rank in the snapshot's schedule

	limit    atomic.Uint32 // of failures in a row; 0 for none
	began    time.Time     // never changed; when the clock was 0
	ticker   *time.Timer   // of the next tick; nil while asleep
	due      time.Duration // when the next tick is
	active   time.Duration // when there was a reason to tick last
	lastPick time.Duration // when somebody was last seen to have been picked
	compared time.Duration // when failures were compared last
	rebuilt  time.Duration // when the snapshot was made
	slowing  bool          // somebody starts slowly
	metrics  metrics
	answers  *answers // where the next instances have theirs counted

	// goroutines are those that wake idle children, and the timer. Close waits.
	goroutines sync.WaitGroup
}

func newEngine(cc gbalancer.ClientConn, opts gbalancer.BuildOptions) *engine {
	e := &engine{
		cc:                  cc,
		opts:                opts,
		pickFirst:           gbalancer.Get(pickfirst.Name),
		pickFirstAttributes: pickfirst.EnableHealthListener(gresolver.State{}).Attributes,
		config:              &config{settings: defaultSettings()},
		began:               time.Now().Add(-1), // so that nothing happens at 0
		children:            map[string][]*child{},
		published:           connectivity.Shutdown, // nothing yet
		unpublished:         true,
		edition:             1, // 0 is what connections have that are in none
	}
	e.picker.engine = e
	e.picker.asleep.Store(true)
	e.position.start()
	e.startMetrics()
	return e
}

// UpdateClientConnState implements gbalancer.Balancer. A state that says nothing
// new costs a comparison per endpoint and reaches neither gRPC nor the children.
func (e *engine) UpdateClientConnState(s gbalancer.ClientConnState) error {
	cfg, ok := s.BalancerConfig.(*config)
	if s.BalancerConfig != nil && !ok {
		return fmt.Errorf("balancer: configuration of type %T, want what ParseConfig returns: %w", s.BalancerConfig, gbalancer.ErrBadResolverState)
	}
	if cfg == nil {
		cfg = &config{settings: defaultSettings()}
	}
	changed, removed := e.apply(cfg, s.ResolverState)
	for _, c := range changed {
		c.update()
	}
	known := e.settle()
	for _, c := range removed {
		c.close()
	}
	if known == 0 {
		return gbalancer.ErrBadResolverState // asks the resolver to look again
	}
	return nil
}

// apply takes over a configuration and a resolver state, and returns the children
// that need their addresses and those that are no longer wanted. A new child
// counts as connecting until it says something else.
func (e *engine) apply(cfg *config, s gresolver.State) (changed, removed []*child) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.round++
	e.metrics.resolved = e.now()
	e.explain(endpoint.Reason(s), "")
	e.configure(cfg)
	endpoints, now := cfg.subset.of(s.Endpoints), registryTime(cfg, s.Endpoints)
	named, before := 0, e.order
	for _, ep := range endpoints {
		if len(ep.Addresses) == 0 {
			continue
		}
		m := memberOf(ep)
		c, rest := ahead(before, m.id, m.life)
		if before = rest; c == nil {
			c = e.find(m.id, m.life)
		}
		needs := false
		switch {
		case c == nil:
			c, needs = e.add(m), true
			c.isNew = e.isNew(m, now)
		case c.round == e.round:
			continue // named twice
		default:
			needs = e.change(c, m)
		}
		if needs {
			changed = append(changed, c)
		}
		c.round = e.round
		named++
	}
	if named < len(e.order) {
		removed = e.removeUnnamed()
	}
	return changed, removed
}

// configure takes over a configuration.
func (e *engine) configure(cfg *config) {
	before := e.config.settings
	e.config = cfg
	if cfg.settings == before {
		return
	}
	e.stale = true
	e.limit.Store(cfg.ejection.ConsecutiveFailures)
	now := e.now()
	if !before.ejection.on() {
		e.compared = now
	}
	for _, c := range e.order {
		h := &c.health
		if !before.ejection.on() { // what was before does not count
			c.tally.consecutive.Store(0)
			h.counted = c.counts()
		}
		if before.stall.Off != cfg.stall.Off {
			h.pulse = pulse{heard: now}
		}
		if h.suspect && (h.why == stalled && cfg.stall.Off || h.why == failing && !cfg.ejection.on()) {
			e.reinstate(c, "nobody is to be ejected any more")
		}
	}
	e.noteAll()
}

// explain notes why there are no children and what is wrong with the resolver.
func (e *engine) explain(reason, resolverErr string) {
	if e.reason != reason || e.resolverErr != resolverErr {
		e.reason, e.resolverErr, e.unpublished = reason, resolverErr, true
	}
}

// ahead finds a child where it mostly is: at the head of those that have not been
// named yet, or behind one that is gone. It returns those after it as well.
func ahead(children []*child, id, life string) (found *child, rest []*child) {
	for i, c := range children[:min(2, len(children))] {
		if c.is(id, life) {
			return c, children[i+1:]
		}
	}
	return nil, children
}

func (e *engine) find(id, life string) *child {
	for _, c := range e.children[id] {
		if c.is(id, life) {
			return c
		}
	}
	return nil
}

func (e *engine) add(m member) *child {
	c := &child{ClientConn: e.cc, engine: e, member: m, state: connectivity.Connecting, tally: new(tally)}
	c.addrs = slices.Clone(m.addrs)
	c.closing.Store(e.closed.contains(m.id, m.life))
	e.children[m.id] = append(e.children[m.id], c)
	e.order = append(e.order, c)
	e.count[c.state]++
	e.unpublished = true
	return c
}

// change makes c what m says and returns whether it needs the new addresses.
func (e *engine) change(c *child, m member) (needsAddrs bool) {
	if c.weight != m.weight || c.draining != m.draining || c.zone != m.zone {
		c.weight, c.draining, c.zone = m.weight, m.draining, m.zone
		e.unpublished = true
		e.rerank(c)
	}
	if slices.EqualFunc(c.addrs, m.addrs, sameAddr) {
		return false
	}
	c.addrs = slices.Clone(m.addrs)
	return true
}

// removeUnnamed takes out the children that the current resolver state does not
// name. They are not picked any more, from now on.
func (e *engine) removeUnnamed() (removed []*child) {
	unnamed := func(c *child) bool { return c.round != e.round }
	e.order = slices.DeleteFunc(e.order, func(c *child) bool {
		if unnamed(c) {
			removed = append(removed, c)
		}
		return unnamed(c)
	})
	for _, c := range removed {
		c.gone = true
		if c.connected > 0 {
			e.met.add(c.id, c.life)
		}
		e.count[c.state]--
		if c.state == connectivity.Ready {
			e.lose(c)
		}
		if e.children[c.id] = slices.DeleteFunc(e.children[c.id], unnamed); len(e.children[c.id]) == 0 {
			delete(e.children, c.id)
		}
	}
	e.unpublished = true
	return removed
}

// ResolverError implements gbalancer.Balancer. Connections are kept; where there
// are none that could be used, calls are told.
func (e *engine) ResolverError(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.explain(e.reason, err.Error())
	if e.unpublished && !e.shut && e.aggregated() == connectivity.TransientFailure {
		e.publish()
	}
}

// UpdateSubConnState implements gbalancer.Balancer; gRPC does not call it.
func (e *engine) UpdateSubConnState(gbalancer.SubConn, gbalancer.SubConnState) {}

// ExitIdle implements gbalancer.Balancer. Children do not stay idle; this is for
// those that have become so in this moment.
func (e *engine) ExitIdle() {
	e.mu.Lock()
	idle := slices.DeleteFunc(slices.Clone(e.order), func(c *child) bool { return c.state != connectivity.Idle })
	e.mu.Unlock()
	for _, c := range idle {
		c.exitIdle()
	}
}

// Close implements gbalancer.Balancer. Nothing is called back afterwards.
func (e *engine) Close() {
	e.mu.Lock()
	e.shut = true
	children := e.order
	for _, timer := range []*time.Timer{e.timer, e.ticker} {
		if timer != nil && timer.Stop() {
			e.goroutines.Done()
		}
	}
	e.mu.Unlock()
	for _, c := range children {
		c.close()
	}
	e.goroutines.Wait()
	e.metrics.unregister()
	e.recordPicks(0)
}
