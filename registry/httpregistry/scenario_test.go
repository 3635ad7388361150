package httpregistry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// servers are n processes, each with a registration of its own.
func servers(t testing.TB, n *network, seeds []string, count int) (regs []registry.Registration) {
	t.Helper()
	for i := range count {
		regs = append(regs, mustRegister(t, n.client(seeds), instance("greeter", i)))
	}
	return regs
}

const five = "i0 i1 i2 i3 i4"

// The registry is killed, is gone for a minute and comes back empty: the last good
// set stays throughout, and all are registered again within a heartbeat.
func TestTheRegistryRestartsEmpty(t *testing.T) {
	for _, gone := range []time.Duration{0, time.Second, time.Minute, time.Hour} {
		t.Run(gone.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				n.registry(three[0])
				servers(t, n, three[:1], 5)
				w := watchIt(t, n.client(three[:1]), "greeter")
				pass(3 * time.Minute)
				n.kill(three[0])
				pass(gone)
				node := n.registry(three[0])
				pass(30 * time.Second)
				if got := len(node.asked(wire.PathRegister, time.Time{})); got < 5 {
					t.Errorf("%d of 5 servers are back after a heartbeat", got)
				}
				pass(6 * time.Second)
				if got, err := w.last(); got != five || err != nil {
					t.Errorf("in the end: %s, %v", got, err)
				}
				for _, got := range w.all() {
					if strings.TrimSuffix(got, "?") != five && got != "no registry node answers" {
						t.Errorf("on the way: %q in %q", got, w.all())
					}
				}
			})
		})
	}
}

// A registry that restarts again and again, each time when all but the dead one are
// back: that one is given up after its lease, and the others have one each time.
func TestTheRegistryRestartsAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		living := []registry.Instance{instance("greeter", 0), instance("greeter", 1), instance("greeter", 2), instance("greeter", 3), instance("greeter", 4)}
		n.registry(three[0]).put(append(living, instance("greeter", 9))...)
		w := watchIt(t, n.client(three[:1]), "greeter")
		pass(20 * time.Second)
		for range 30 {
			node := n.registry(three[0])
			pass(25 * time.Second)
			node.put(living...)
			pass(55 * time.Second)
		}
		for _, got := range w.all()[1:] {
			if got = strings.TrimSuffix(got, "?"); got != five+" i9" && got != five {
				t.Errorf("on the way: %q", got)
			}
		}
		if got, err := w.last(); got != five || err != nil {
			t.Errorf("in the end: %s, %v", got, err)
		}
	})
}

// Whoever asks only now and then is not told a smaller set either.
func TestFetchDuringARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.registry(three[0])
		servers(t, n, three[:1], 5)
		c := n.client(three[:1])
		for i := range 20 {
			if i == 5 {
				n.registry(three[0])
			}
			snap, err := c.Fetch(t.Context(), "greeter")
			if got := strings.TrimSuffix(ids(snap), "?"); got != five || err != nil {
				t.Errorf("Fetch %d = %s, %v", i, got, err)
			}
			pass(3 * time.Second)
		}
	})
}

// A service that is really gone is given up after one lease, and a poll, if there is
// one node to ask; at once if two that have long been up agree.
func TestScaleToZeroIsHonoured(t *testing.T) {
	for _, tt := range []struct {
		name  string
		nodes int
		young bool // restarted a minute ago
		min   time.Duration
		max   time.Duration
	}{
		{"one node", 1, false, 90 * time.Second, 102 * time.Second},
		{"two nodes", 2, false, 0, 8 * time.Second},
		{"two young nodes", 2, true, 25 * time.Second, 40 * time.Second},
		{"three nodes", 3, false, 0, 8 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				seeds := three[:tt.nodes]
				for _, addr := range seeds {
					n.registry(addr)
				}
				fill := func(f func(*fakeNode)) {
					for _, addr := range seeds {
						f(n.hosts[addr].server.Handler.(*fakeNode))
					}
				}
				if tt.young {
					pass(time.Hour)
					for _, addr := range seeds {
						n.registry(addr)
					}
				}
				fill(func(f *fakeNode) { f.put(instance("s", 1), instance("s", 2)) })
				w := watchIt(t, n.client(seeds), "s")
				if tt.young {
					pass(time.Minute)
				} else {
					pass(2 * time.Minute)
				}
				fill(func(f *fakeNode) { f.drop("s", "i1"); f.drop("s", "i2") })
				began := time.Now()
				for _, err := w.last(); !errors.Is(err, registry.ErrUnknownService); _, err = w.last() {
					if time.Since(began) > tt.max {
						got, err := w.last()
						t.Fatalf("after %v: %s, %v", time.Since(began), got, err)
					}
					pass(100 * time.Millisecond)
				}
				if took := time.Since(began); took < tt.min {
					t.Errorf("given up after %v, want at least %v", took, tt.min)
				}
				_, err := w.last()
				for _, addr := range seeds[:min(2, len(seeds))] {
					if tt.nodes == 2 && !strings.Contains(err.Error(), addr+": code 404") {
						t.Errorf("the reason is %q, want every node's", err)
					}
				}
			})
		})
	}
}

// A registry that misses one poll a minute is believed all the same.
func TestScaleToZeroInARegistryThatOftenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		node.put(instance("s", 1), instance("s", 2))
		w := watchIt(t, n.client(three[:1]), "s")
		pass(20 * time.Second)
		node.drop("s", "i1")
		node.drop("s", "i2")
		for range 3 {
			node.answer(wire.PathFetch, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "busy", http.StatusServiceUnavailable) })
			pass(7 * time.Second)
			node.answer(wire.PathFetch, nil)
			pass(53 * time.Second)
		}
		if got, err := w.last(); !errors.Is(err, registry.ErrUnknownService) {
			t.Errorf("three minutes after the last instance has gone: %s, %v", got, err)
		}
	})
}

// One node that has lost nearly everything is not believed against another: its view
// is filled up, and the better node asked from then on.
func TestAViewThatIsSplitIsMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		nodes := make([]*fakeNode, 3)
		for i, addr := range three {
			nodes[i] = noNodes(n.registry(addr))
			for k := range 6 {
				nodes[i].put(instance("s", k))
			}
		}
		c := n.client(three)
		c.nodes.start = 0
		w := watchIt(t, c, "s")
		pass(time.Minute)
		const all = "i0 i1 i2 i3 i4 i5"
		for k := range 5 {
			nodes[0].drop("s", fmt.Sprint("i", k))
		}
		since := time.Now()
		pass(time.Hour)
		if got := w.all(); len(got) != 1 || got[0] != all {
			t.Errorf("told %q, want the whole set and nothing else", got)
		}
		if got := len(nodes[0].asked(wire.PathFetch, since)); got > 1 {
			t.Errorf("the node that knows less was asked %d more times", got)
		}
		// Now nobody knows all of it.
		nodes[1].drop("s", "i0")
		nodes[1].drop("s", "i1")
		nodes[1].drop("s", "i2")
		nodes[1].drop("s", "i3")
		nodes[2].drop("s", "i4")
		nodes[2].drop("s", "i5")
		pass(time.Hour)
		if got, err := w.last(); got != all || err != nil {
			t.Errorf("of three views that differ: %s, %v; told %q", got, err, w.all())
		}
		nodes[2].drop("s", "i0") // which nobody shows any more
		pass(2 * time.Minute)
		if got, err := w.last(); got != "i1 i2 i3 i4 i5" || err != nil {
			t.Errorf("an instance that nobody shows any more: %s, %v", got, err)
		}
	})
}

// A node that is up and down all the time, empty each time, loses nobody while it is
// up for a heartbeat and two polls, and never everybody.
func TestAFlappingRegistry(t *testing.T) {
	for _, tt := range []struct {
		name     string
		up, down time.Duration // at least; and up to 10 s more
		all      bool
	}{{"slowly", 40 * time.Second, time.Second, true}, {"wildly", time.Second, time.Second, false}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				n.registry(three[0])
				servers(t, n, three[:1], 5)
				w := watchIt(t, n.client(three[:1]), "greeter")
				pass(10 * time.Second)
				for i := range 100 {
					n.kill(three[0])
					pass(tt.down + time.Duration(i%7)*time.Second)
					n.registry(three[0])
					pass(tt.up + time.Duration(i%11)*time.Second)
				}
				for _, got := range w.all() {
					if set := strings.TrimSuffix(got, "?"); tt.all && set != five && got != "no registry node answers" || set == "" || got == "service unknown to the registry" {
						t.Fatalf("told %q", got)
					}
				}
				pass(36 * time.Second)
				if got, err := w.last(); got != five || err != nil {
					t.Errorf("in the end: %s, %v", got, err)
				}
			})
		})
	}
}
