package httpregistry

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// idle is a client that has watched i1, i2 and i3 and has not for five minutes, as
// that of a gRPC channel that is idle.
func idle(t *testing.T, n *network, seeds []string) *Client {
	for _, addr := range seeds {
		n.registry(addr).put(instance("s", 1), instance("s", 2), instance("s", 3))
	}
	c := n.client(seeds)
	w := watchIt(t, c, "s")
	pass(20 * time.Second)
	w.Close()
	pass(5 * time.Minute)
	return c
}

// A registry that restarts empty while nobody looks is doubted when somebody does,
// for one lease.
func TestIdleWhileTheRegistryRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := idle(t, n, three[:1])
		node := n.registry(three[0])
		w := watchIt(t, c, "s")
		pass(20 * time.Second)
		node.put(instance("s", 1), instance("s", 2))
		pass(60 * time.Second)
		if got := w.all(); !slices.Equal(got, []string{"i1 i2 i3?", "i1 i2 i3?"}) {
			t.Errorf("told %q, want the old set for two reasons", got)
		}
		pass(20 * time.Second)
		if got, err := w.last(); got != "i1 i2" || err != nil {
			t.Errorf("after a lease: %s, %v", got, err)
		}
	})
}

// What was known before is no measure for a node that has been up all the time.
func TestAnOldSetIsNoMeasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := idle(t, n, three[:1])
		node := n.hosts[three[0]].server.Handler.(*fakeNode)
		node.drop("s", "i1")
		node.drop("s", "i2")
		if snap, err := c.Fetch(t.Context(), "s"); ids(snap) != "i3" {
			t.Errorf("Fetch = %s, %v", ids(snap), err)
		}
	})
}

// While the registry hangs, who begins to watch has the last good set in a second,
// and the reason when there is one.
func TestIdleWhileTheRegistryHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := idle(t, n, three)
		for _, addr := range three {
			n.hang(addr)
		}
		w, err := c.Watch(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		snap, err := w.Next(t.Context())
		if took := time.Since(began); took != time.Second || ids(snap) != "i1 i2 i3?" || snap.Reason != "the registry has not answered within 1s" {
			t.Errorf("after %v: %s (%s), %v", took, ids(snap), snap.Reason, err)
		}
		if _, err := w.Next(t.Context()); kind(err) != registry.ErrUnavailable.Error() {
			t.Errorf("then: %v", err)
		}
		w.Close()

		// There is no such word when the watch ends before, or the answer comes.
		again, err := c.Watch(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		again.Close()
		if took := time.Since(began); took > 0 {
			t.Errorf("Close took %v", took)
		}
		for _, addr := range three {
			n.registry(addr).put(instance("s", 1), instance("s", 2), instance("s", 3))
		}
		pass(10 * time.Second)
		last := watchIt(t, c, "s")
		pass(10 * time.Second)
		if got := last.all(); !slices.Equal(got, []string{"i1 i2 i3"}) {
			t.Errorf("told %q by a registry that answers", got)
		}
	})
}

// Names that nobody has ever served leave nothing to wait for.
func TestIdleAndUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		c := n.client(three[:1])
		node.answer(wire.PathFetch, says200(`{"code":404}`))
		first := watchIt(t, c, "s")
		synctest.Wait()
		first.Close()
		if got := first.told(); got != 1 {
			t.Fatalf("told %q at first", first.all())
		}
		n.hang(three[0])
		pass(pause)
		w := watchIt(t, c, "s")
		pass(1500 * time.Millisecond)
		if got := w.told(); got != 0 {
			t.Errorf("told %q within 1.5 s", w.all())
		}
	})
}
