package balancer

import (
	"errors"
	"slices"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/fakecc"
	"github.com/rollcall-go/rollcall/registry"
)

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
	for addr, k := range m.known {
		c := m.find(k.inst.ID, k.inst.Life)
		switch {
		case c == nil:
			m.errorf("%s has no child", addr)
		case k.child == nil:
			k.child, k.tally = c, c.tally
		case k.child != c || k.tally != c.tally:
			m.errorf("what was known of %s is lost", addr)
		}
	}
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

// consistent checks what must be true at every moment: whatever is put off has a
// timer, and a pick wakes the engine when it sleeps.
func (m *model) consistent() {
	m.mu.Lock()
	defer m.mu.Unlock()
	ready := m.aggregated() == connectivity.Ready
	if ready && m.outdated() && m.timer == nil {
		m.errorf("the snapshot is outdated, and nothing will renew it")
	}
	if ready && m.picker.snapshot.Load() == nil {
		m.errorf("ready without a snapshot")
	}
	if m.picker.asleep.Load() != (m.ticker == nil) {
		m.errorf("asleep is %v, the ticker %v", m.picker.asleep.Load(), m.ticker)
	}
	for _, c := range m.order {
		if c.state != connectivity.Ready {
			if c.conn != nil && c.conn.rank.Load() != rankLost {
				m.errorf("%s is not ready and its rank is %d", c.id, c.conn.rank.Load())
			}
			continue
		}
		if m.ticker == nil && c.conn.onPick.Load()&takeTime == 0 {
			m.errorf("a pick of %s would not wake the engine", c.id)
		}
	}
}

// end ends all calls: then none is in hand.
func (m *model) end() {
	for _, end := range m.inHand {
		end()
	}
	m.inHand = nil
	for addr, k := range m.known {
		if hand := k.tally.calls.Load() % oneAnswer; hand != 0 {
			m.errorf("%s has %x calls in hand after all have ended", addr, hand)
		}
	}
}
