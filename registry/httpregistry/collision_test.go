package httpregistry

import (
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
