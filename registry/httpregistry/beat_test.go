package httpregistry

import (
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// Beats come every 30 s or a little sooner, and go to one node.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node, other := noNodes(n.registry(three[0])), noNodes(n.registry(three[1]))
		other.put(instance("s", 1))
		c := n.client(three[:2])
		c.nodes.start = 0
		r := mustRegister(t, c, instance("s", 1))
		pass(time.Hour)
		beats := node.asked(wire.PathRenew, time.Time{})
		if len(beats) < 120 || len(beats) > 133 {
			t.Errorf("%d beats in an hour, want 120 to 133", len(beats))
		}
		var gaps []time.Duration
		for i := 1; i < len(beats); i++ {
			gap := beats[i].at.Sub(beats[i-1].at)
			if gap < 27*time.Second || gap > 30*time.Second+spacing {
				t.Errorf("%v between two beats", gap)
			}
			gaps = append(gaps, gap)
		}
		slices.Sort(gaps)
		if len(slices.Compact(gaps)) < 50 {
			t.Error("the beats have no jitter")
		}
		if got := other.asked(wire.PathRenew, time.Time{}); len(got) > 0 {
			t.Errorf("the other node was sent %d beats", len(got))
		}
		if got := eventsOf(r); len(got) > 0 {
			t.Errorf("events %v, want none", got)
		}
	})
}

func TestABeatThatFailsIsRepeatedOnAnotherNodeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		noNodes(n.registry(three[0]))
		other := noNodes(n.registry(three[1]))
		c := n.client(three[:2])
		c.nodes.start = 0
		r := mustRegister(t, c, instance("s", 1))
		other.put(instance("s", 1))
		pass(10 * time.Second)
		n.hang(three[0])
		pass(25 * time.Second)
		if got := other.asked(wire.PathRenew, time.Time{}); len(got) != 1 {
			t.Errorf("%d beats at the other node, want one", len(got))
		}
		if got := eventsOf(r); len(got) > 0 {
			t.Errorf("events %v, want none: nobody need know", got)
		}
	})
}

// The beat never gives up, is soon back when the registry is, and says what happened.
func TestTheBeatNeverGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		log := &logs{}
		n.registry(three[0])
		c := n.client(three[:1], WithLogger(log.logger()))
		r := mustRegister(t, c, instance("s", 1))
		pass(time.Minute)
		n.kill(three[0])
		pass(24 * time.Hour)
		if got := eventsOf(r); !slices.Equal(got, []registry.EventKind{registry.RenewFailed}) {
			t.Errorf("events of a day's outage: %v, want one", got)
		}
		if got := log.count("registration renew failed"); got != 1 {
			t.Errorf("the outage was logged %d times", got)
		}
		node := n.registry(three[0])
		pass(30 * time.Second)
		if got := node.asked(wire.PathRegister, time.Time{}); len(got) != 1 {
			t.Errorf("registered %d times within a heartbeat of the restart, want once", len(got))
		}
		if got := eventsOf(r); !slices.Equal(got, []registry.EventKind{registry.Lost, registry.Registered, registry.Renewed}) {
			t.Errorf("events of the restart: %v", got)
		}
		pass(10 * time.Second)
		if got := node.asked(wire.PathRenew, time.Time{}); len(got) < 2 || got[1].at.Sub(got[0].at) > 3*time.Second {
			t.Errorf("renews %v, want a second one soon that verifies the register", got)
		}
	})
}

// 404 to a renew: registered again at that same node, though another would do.
func TestALostInstanceIsRegisteredAgainWhereItIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node, other := noNodes(n.registry(three[0])), noNodes(n.registry(three[1]))
		other.put(instance("s", 1))
		c := n.client(three[:2])
		c.nodes.start = 0
		mustRegister(t, c, instance("s", 1))
		pass(10 * time.Second)
		node.drop("s", "i1")
		since := time.Now()
		pass(21 * time.Second)
		renews, registers := node.asked(wire.PathRenew, since), node.asked(wire.PathRegister, since)
		if len(renews) == 0 || len(registers) != 1 {
			t.Fatalf("%d renews and %d registers at the node", len(renews), len(registers))
		}
		if gap := registers[0].at.Sub(renews[0].at); gap < spacing || gap > 2*spacing {
			t.Errorf("registered %v after the 404", gap)
		}
		if len(other.asked(wire.PathRenew, time.Time{}))+len(other.asked(wire.PathRegister, time.Time{})) > 0 {
			t.Error("the other node was told")
		}
	})
}

// A registry that takes and loses again is asked with growing patience.
func TestARegistryThatKeepsForgettingIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		c := n.client(three[:1])
		r := mustRegister(t, c, instance("s", 1))
		node.answer(wire.PathRenew, says200(`{"code":404,"message":"code: 404, error info: not found"}`))
		since := time.Now()
		pass(time.Hour)
		if got := len(node.asked(wire.PathRegister, since)); got < 120 || got > 260 {
			t.Errorf("registered %d times in an hour, want once in 15 to 30 s", got)
		}
		if got := eventsOf(r); !slices.Equal(got, []registry.EventKind{registry.Lost, registry.Registered}) {
			t.Errorf("events %v, want the loss once", got)
		}
	})
}

// A beat that takes so long that a write is due in the meantime makes that no more
// than late.
func TestAWriteThatIsLateIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		var beating atomic.Bool
		node.answer(wire.PathRenew, func(w http.ResponseWriter, r *http.Request) {
			beating.Store(true)
			time.Sleep(settleAfter + 100*time.Millisecond)
			node.Server.ServeHTTP(w, r)
		})
		inst := instance("s", 1)
		r := mustRegister(t, n.client(three[:1]), inst)
		for ; !beating.Load(); inst.Weight++ {
			if err := r.Update(t.Context(), inst); err != nil {
				t.Fatal(err)
			}
			pass(settleAfter * 2 / 3)
		}
		pass(5 * time.Second)
		since := time.Now()
		pass(time.Minute)
		if writes := node.asked(wire.PathRegister, since); len(writes) > 0 {
			t.Errorf("written %d times in a minute without news", len(writes))
		}
	})
}
