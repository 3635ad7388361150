package balancer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/internal/fakecc"
	"github.com/rollcall-go/rollcall/pick"
	"github.com/rollcall-go/rollcall/registry"
)

// TestModel does random things to the engine and compares what it picks with
// what a model says may be picked: at every moment, not only when all is settled.
func TestModel(t *testing.T) {
	for seed := range uint64(100) {
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				m := &model{bed: b, rng: rand.New(rand.NewPCG(seed, 0)), known: map[string]*modelled{}, closing: map[string]bool{}}
				for step := 0; step < 300 && !t.Failed(); step++ {
					m.step()
				}
			})
		}) {
			return
		}
	}
}

// model is what is true of the instances, by address: each process has its own.
type model struct {
	*bed
	rng     *rand.Rand
	picker  Picker
	known   map[string]*modelled
	closing map[string]bool // addresses whose process has said that it closes
	did     []string
}

type modelled struct {
	inst   registry.Instance
	sub    *fakecc.SubConn
	failed bool // and not been ready since: TRANSIENT_FAILURE is sticky
}

func (m *model) step() {
	if m.picker == nil {
		m.resolve()
	}
	switch m.rng.IntN(12) {
	case 0:
		m.resolve()
	case 1:
		m.do("resolver error")
		m.ResolverError(errors.New("resolver is unwell"))
	case 2:
		m.do("settle")
		m.pass()
		m.settled()
	case 3, 4, 5, 6, 7:
		m.transition()
	default:
		m.pick()
	}
}

func (m *model) do(format string, args ...any) { m.did = append(m.did, fmt.Sprintf(format, args...)) }

func (m *model) errorf(format string, args ...any) {
	m.t.Helper()
	m.t.Errorf("%s\nafter:\n  %s", fmt.Sprintf(format, args...), strings.Join(m.did[max(0, len(m.did)-40):], "\n  "))
}

// resolve gives the engine another set, or the same in another order.
func (m *model) resolve() {
	all := pickersForTest()
	if m.picker == nil || m.rng.IntN(3) == 0 {
		m.picker = all[m.rng.IntN(len(all))]
	}
	var set []registry.Instance
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		for _, life := range []string{"1", "2"} {
			if m.rng.IntN(3) > 0 {
				continue
			}
			inst := server(id+"/"+life, at(id+"."+life+":1"), weighing(1+m.rng.Uint32N(5)))
			if m.rng.IntN(4) == 0 {
				inst.Status = registry.Draining
			}
			set = append(set, inst)
		}
	}
	m.rng.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	m.do("resolve with %T: %v", m.picker, describe(set))
	if err := m.bed.resolve(m.picker, set...); (err != nil) != (len(set) == 0) {
		m.errorf("error %v", err)
	}
	before := m.known
	m.known = map[string]*modelled{}
	for _, inst := range set {
		addr := inst.Addrs[0]
		m.known[addr] = &modelled{}
		if old := before[addr]; old != nil {
			m.known[addr] = old
		}
		m.known[addr].inst = inst
	}
	m.connections()
}

func describe(set []registry.Instance) (out []string) {
	for _, inst := range set {
		out = append(out, fmt.Sprintf("%s w%d %v", inst.Addrs[0], inst.Weight, inst.Status))
	}
	return out
}

// connections checks that there is one connection per instance, the same as ever.
func (m *model) connections() {
	m.t.Helper()
	subs := m.cc.SubConns()
	if len(subs) != len(m.known) {
		m.errorf("%d connections for %d instances", len(subs), len(m.known))
	}
	for _, sub := range subs {
		k := m.known[sub.Addr]
		switch {
		case k == nil:
			m.errorf("a connection to %s is left", sub.Addr)
		case k.sub == nil:
			k.sub = sub
		case k.sub != sub:
			m.errorf("%s was connected anew", sub.Addr)
		}
	}
}

// transition lets one connection do what connections do.
func (m *model) transition() {
	subs := m.cc.SubConns()
	if len(subs) == 0 {
		return
	}
	sub := subs[m.rng.IntN(len(subs))]
	k := m.known[sub.Addr]
	next := connectivity.Idle
	switch sub.State() {
	case connectivity.Idle:
		next = connectivity.Connecting
	case connectivity.Connecting:
		next = connectivity.Ready
		if m.rng.IntN(3) == 0 {
			next = connectivity.TransientFailure
		}
	}
	m.do("%s: %v", sub.Addr, next)
	switch next {
	case connectivity.TransientFailure:
		k.failed = true
	case connectivity.Ready:
		k.failed = false
		delete(m.closing, sub.Addr) // it is on probation
	}
	published, lost := m.cc.Published(), sub.State() == connectivity.Ready
	sub.Set(next, errors.New(sub.Addr+" refuses"))
	if lost && m.cc.Published() == published {
		m.errorf("the loss of %s was not published in the same callback", sub.Addr)
	}
	synctest.Wait() // idle ones connect again
}

func (m *model) isReady(addr string) bool { return m.known[addr].sub.State() == connectivity.Ready }

// pick makes some calls with or without hints.
func (m *model) pick() {
	ctx, rec := m.t.Context(), (*pick.Record)(nil)
	avoided := map[string]bool{}
	if m.rng.IntN(2) == 0 {
		ctx, rec = m.recorded()
		for _, id := range []string{"a", "b", "c"} {
			if m.rng.IntN(3) == 0 {
				rec.Avoid(id)
				avoided[id] = true
			}
		}
		if m.rng.IntN(4) == 0 {
			m.pickPinned(string("abcdefx"[m.rng.IntN(7)]))
			return
		}
	}
	for range 1 + m.rng.IntN(4) {
		result, err := m.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: ctx})
		if err != nil {
			m.do("pick, avoiding %v: %v", avoided, err)
			if slices.ContainsFunc(addrsOf(m.known), m.isReady) {
				m.errorf("no pick, though somebody is ready: %v", err)
			}
			return
		}
		addr := result.SubConn.(*fakecc.SubConn).Addr
		m.do("pick, avoiding %v: %s", avoided, addr)
		m.checkPick(addr, avoided)
		if rec != nil {
			avoided[addr[:1]] = true
		}
		m.finish(addr, result.Done)
	}
}

func addrsOf(known map[string]*modelled) (addrs []string) {
	for addr := range known {
		addrs = append(addrs, addr)
	}
	slices.Sort(addrs)
	return addrs
}

// checkPick checks that nobody ready would have been better than addr.
func (m *model) checkPick(addr string, avoided map[string]bool) {
	m.t.Helper()
	if m.known[addr] == nil {
		m.errorf("picked %s, which is not known", addr)
		return
	}
	objection := func(addr string) (n int) {
		if !m.isReady(addr) {
			n += 4
		}
		if avoided[addr[:1]] {
			n += 2
		}
		if m.known[addr].inst.Status == registry.Draining || m.closing[addr] {
			n++
		}
		return n
	}
	if m.suspected() { // who is used then is for other tests
		objection = func(addr string) (n int) {
			if !m.isReady(addr) {
				n += 2
			}
			if avoided[addr[:1]] {
				n++
			}
			return n
		}
	}
	for _, other := range addrsOf(m.known) {
		if objection(other) < objection(addr) {
			m.errorf("picked %s (objection %d) though there is %s (%d)", addr, objection(addr), other, objection(other))
		}
	}
}

// suspected says whether anybody is.
func (m *model) suspected() bool {
	return slices.ContainsFunc(m.order, func(c *child) bool { return c.health.suspect })
}

func (m *model) finish(addr string, done func(gbalancer.DoneInfo)) {
	switch m.rng.IntN(8) {
	case 0:
		done(gbalancer.DoneInfo{})
	case 1:
		done(gbalancer.DoneInfo{Err: errors.New("failed"), BytesSent: true})
	case 2:
		m.do("%s closes", addr)
		m.closing[addr] = true
		done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true, Trailer: drain.Closing(addr[:1], addr[2:3])})
	default:
		done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
	}
}

// pickPinned checks what becomes of a call that must go to id.
func (m *model) pickPinned(id string) {
	ctx, rec := m.recorded()
	rec.Pin(id)
	var ready, connecting, failed int
	for addr, k := range m.known {
		switch {
		case addr[:1] != id:
		case m.isReady(addr):
			ready++
		case k.failed:
			failed++
		default:
			connecting++
		}
	}
	result, err := m.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: ctx})
	m.do("pick, pinned %s: %v", id, err)
	switch waits := errors.Is(err, gbalancer.ErrNoSubConnAvailable); {
	case err == nil:
		addr := result.SubConn.(*fakecc.SubConn).Addr
		if addr[:1] != id || !m.isReady(addr) {
			m.errorf("pinned %s, picked %s", id, addr)
		}
		result.Done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
	case ready > 0:
		m.errorf("pinned %s, which is ready: %v", id, err)
	case waits && connecting == 0:
		m.errorf("waits for %s, which does not connect", id)
	case !waits && (status.Code(err) != codes.Unavailable || connecting > 0 && failed == 0):
		m.errorf("pinned %s, of which %d connect: %v", id, connecting, err)
	}
}

// settled checks what must be true when nothing is put off.
func (m *model) settled() {
	m.connections()
	want := connectivity.TransientFailure
	for addr, k := range m.known {
		switch {
		case m.isReady(addr):
			want = connectivity.Ready
		case !k.failed && want != connectivity.Ready:
			want = connectivity.Connecting
		}
	}
	if got := m.cc.State().ConnectivityState; got != want {
		m.errorf("state %v, want %v", got, want)
	}
	ids := map[string]bool{}
	for addr := range m.known {
		ids[addr[:1]] = true
	}
	if len(m.order) != len(m.known) || len(m.children) != len(ids) {
		m.errorf("%d children under %d IDs for %d instances under %d", len(m.order), len(m.children), len(m.known), len(ids))
	}
}

// pickersForTest returns every picker, in a stable order.
func pickersForTest() []Picker {
	return []Picker{Random{}, RoundRobin{}, WeightedRoundRobin{}}
}
