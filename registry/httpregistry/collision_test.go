package httpregistry

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// Two processes with one ID: the one that was there first is told, soon and once.
func TestCollision(t *testing.T) {
	for _, life := range []string{"another", ""} {
		t.Run("life "+life, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				node := n.registry(three[0])
				mine, other := instance("s", 1), instance("s", 1)
				mine.Life = life[:min(len(life), 1)]
				other.Life, other.Addrs = life, []string{"10.9.9.9:9"}
				r := mustRegister(t, n.client(three[:1]), mine)
				pass(500 * time.Millisecond)
				node.put(other)
				pass(2 * time.Second)
				select {
				case e := <-r.Events():
					if e.Kind != registry.Collision || e.Node != three[0] || !strings.Contains(e.Err.Error(), "10.9.9.9:9") {
						t.Errorf("event %+v", e)
					}
				default:
					t.Error("no event")
				}
				// It is told again only of another one.
				pass(time.Minute)
				if got := eventsOf(r); len(got) > 0 {
					t.Errorf("more events: %v", got)
				}
			})
		})
	}
}

// collide registers an instance whose ID another process then takes at the node, and
// returns when the registration has told so.
func collide(t *testing.T, c *Client, node *fakeNode) (r registry.Registration, mine, other registry.Instance) {
	t.Helper()
	mine, other = instance("s", 1), instance("s", 1)
	other.Life, other.Addrs = "another", []string{"10.9.9.9:9"}
	r = mustRegister(t, c, mine)
	pass(100 * time.Millisecond)
	node.put(other)
	for e := range r.Events() {
		if e.Kind == registry.Collision {
			break
		}
	}
	return r, mine, other
}

// shownAt is what a node shows under the ID; zero for nothing.
func (n *network) shownAt(t *testing.T, addr string) registry.Instance {
	snap, _ := n.client([]string{addr}).Fetch(t.Context(), "s")
	return append(snap.Instances, registry.Instance{})[0]
}

// The ID is left to the process that has taken it, until that is gone.
func TestAnIDThatAnotherProcessHasIsLeftToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		r, mine, other := collide(t, n.client(three[:1]), node)
		shows := func(when, life string) {
			t.Helper()
			if got := n.shownAt(t, three[0]).Life; got != life {
				t.Errorf("%s the registry shows the life %q, want %q", when, got, life)
			}
		}
		since := time.Now()
		pass(time.Hour)
		if got := len(node.asked(wire.PathRenew, since)) + len(node.asked(wire.PathRegister, since)); got > 0 {
			t.Errorf("the entry of the other was renewed or replaced %d times", got)
		}
		shows("while the other lives,", other.Life)
		node.drop("s", "i1")
		pass(31 * time.Second)
		shows("a heartbeat after the other has left,", mine.Life)
		node.put(other)
		pass(6 * time.Minute)
		if err := r.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		shows("after the end", other.Life)
	})
}

// So it is from the moment in which the process is told, while other nodes are still
// asked.
func TestAnUpdateAtTheCollision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		n.hang(three[1])
		n.hang(three[2])
		r, mine, other := collide(t, n.client(three), node)
		mine.Weight = 7
		if err := r.Update(t.Context(), mine); !errors.Is(err, registry.ErrTaken) {
			t.Errorf("update: %v", err)
		}
		pass(3 * time.Second)
		if got := n.shownAt(t, three[0]); got.Life != other.Life {
			t.Errorf("the registry shows %+v", got)
		}
	})
}

// An update does not replace the other process, and is written when that is gone.
func TestAnUpdateLeavesAnIDToWhoHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		r, mine, other := collide(t, n.client(three[:1]), node)
		mine.Weight = 7
		if err := r.Update(t.Context(), mine); !errors.Is(err, registry.ErrTaken) || !strings.Contains(err.Error(), "10.9.9.9:9") {
			t.Errorf("update: %v", err)
		}
		pass(time.Hour)
		if got := n.shownAt(t, three[0]); got.Life != other.Life {
			t.Errorf("the registry shows %+v", got)
		}
		node.drop("s", "i1")
		pass(31 * time.Second)
		if got := n.shownAt(t, three[0]); got.Life != mine.Life || got.Weight != 7 {
			t.Errorf("a heartbeat after the other has left the registry shows %+v", got)
		}
	})
}

// Nothing is written at the other nodes either, nor where the other process is lost
// while it is shown elsewhere.
func TestNothingIsWrittenAfterACollision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		nodes := n.lazyNodes()
		c := n.client(three)
		c.nodes.start = 0
		_, mine, other := collide(t, c, nodes[0])
		since := time.Now()
		pass(time.Hour)
		for _, node := range nodes[1:] {
			node.put(other)
		}
		nodes[0].drop("s", "i1")
		pass(time.Hour)
		for i, node := range nodes {
			if got := node.asked(wire.PathRegister, since); len(got) > 0 {
				t.Errorf("node %d was asked to register %d times after the collision", i, len(got))
			}
		}
		for _, node := range nodes[1:] {
			node.drop("s", "i1")
		}
		pass(31 * time.Second)
		for _, addr := range three {
			if got := n.shownAt(t, addr); got.Life != mine.Life {
				t.Errorf("a heartbeat after the other has left %s shows %+v", addr, got)
			}
		}
	})
}

// In a large service, too, who has lost its ID only looks.
func TestCollisionInALargeService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		for i := range 5000 {
			inst := instance("s", i+10)
			inst.Addrs = []string{"h" + inst.ID + ":1"}
			node.put(inst)
		}
		r, _, _ := collide(t, n.client(three[:1], WithMaxResponse(1<<30)), node)
		pass(20 * time.Minute)
		if got := eventsOf(r); len(got) > 0 {
			t.Errorf("events: %v", got)
		}
	})
}

// At a node that has missed the register a predecessor is one all the same, by that
// node's own clock, and another process is another.
func TestWhoIsRegisteredAtAnotherNode(t *testing.T) {
	for _, tt := range []struct {
		name      string
		after     bool
		collision bool
	}{{"a predecessor", false, false}, {"another process", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				nodes := n.lazyNodes()
				other := instance("s", 1)
				other.Life = "another"
				put := func() { nodes[1].put(other) }
				if !tt.after {
					put()
					pass(2 * time.Second)
				}
				c := n.client(three)
				c.nodes.start = 0
				r := mustRegister(t, c, instance("s", 1))
				if tt.after {
					pass(100 * time.Millisecond)
					put()
				}
				pass(8 * time.Second)
				if got := slices.Contains(eventsOf(r), registry.Collision); got != tt.collision {
					t.Errorf("collision: %v, want %v", got, tt.collision)
				}
				snap, err := n.client(three[1:2]).Fetch(t.Context(), "s")
				if err != nil || (snap.Instances[0].Life == other.Life) != tt.collision {
					t.Errorf("the node shows %+v, %v", snap.Instances, err)
				}
			})
		})
	}
}

// An entry from before is no collision but a lost write: it is written again.
func TestAPredecessorIsNoCollision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		before, now := instance("s", 1), instance("s", 1)
		before.Life = "before"
		node.put(before)
		pass(time.Minute)
		node.answer(wire.PathRegister, says200(`{"code":200,"data":"","message":""}`))
		r := mustRegister(t, n.client(three[:1]), now)
		node.answer(wire.PathRegister, nil)
		pass(3 * time.Second)
		if got := eventsOf(r); slices.Contains(got, registry.Collision) {
			t.Errorf("events %v", got)
		}
		if snap, err := n.client(three[:1]).Fetch(t.Context(), "s"); err != nil || snap.Instances[0].Life != now.Life {
			t.Errorf("the registry shows %+v, %v", snap.Instances, err)
		}
	})
}
