package httpregistry

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// A register that was acknowledged and is not there is noticed in two seconds.
func TestARegistrationIsVerifiedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		c := n.client(three[:1])
		node.answer(wire.PathRegister, says200(`{"code":200,"data":"","message":""}`))
		r := mustRegister(t, c, instance("s", 1))
		node.answer(wire.PathRegister, nil)
		pass(2500 * time.Millisecond)
		if snap, err := n.client(three[:1]).Fetch(t.Context(), "s"); ids(snap) != "i1" {
			t.Errorf("2.5 s later: %s, %v", ids(snap), err)
		}
		if got := eventsOf(r); !slices.Equal(got, []registry.EventKind{registry.Lost, registry.Registered}) {
			t.Errorf("events %v", got)
		}
	})
}

// What is in order is looked at now and then, and left alone.
func TestAntiEntropyIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		c := n.client(three[:1])
		r := mustRegister(t, c, instance("s", 1))
		since := time.Now().Add(time.Millisecond)
		pass(time.Hour)
		if got := len(node.asked(wire.PathRegister, since)); got > 0 {
			t.Errorf("registered again %d times in an hour", got)
		}
		if got := len(node.asked(wire.PathFetch, since)); got < 10 || got > 16 {
			t.Errorf("looked for itself %d times in an hour, want every 5 minutes or so", got)
		}
		if got := eventsOf(r); len(got) > 0 {
			t.Errorf("events %v, want none: nothing has changed", got)
		}
	})
}

// In a large service it is not the whole set for everybody every few minutes.
func TestChecksAreRareInLargeServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		for i := range 3000 {
			inst := instance("s", i+10)
			inst.Addrs = []string{"h" + inst.ID + ":1"}
			node.put(inst)
		}
		c := n.client(three[:1])
		mustRegister(t, c, instance("s", 1))
		pass(2 * time.Hour)
		looks, writes := len(node.asked(wire.PathFetch, time.Time{})), len(node.asked(wire.PathRegister, time.Time{}))
		if looks < 2 || looks > 17 || writes < 8 || looks+writes < 20 {
			t.Errorf("looked for itself %d times in 2 hours and registered %d times, want a third and two thirds of 24", looks, writes)
		}
	})
}

// lazyNodes are three registry nodes that tell each other nothing.
func (n *network) lazyNodes() (nodes []*fakeNode) {
	for _, addr := range three {
		nodes = append(nodes, noNodes(n.registry(addr)))
	}
	return nodes
}

// shown is the weight with which each node shows i1 of s, 0 where it does not.
func (n *network) shown() (weights []uint32) {
	for _, addr := range three {
		snap, _ := n.client([]string{addr}).Fetch(n.t.Context(), "s")
		weight := uint32(0)
		if i := slices.IndexFunc(snap.Instances, func(inst registry.Instance) bool { return inst.ID == "i1" }); i >= 0 {
			weight = snap.Instances[i].Weight
		}
		weights = append(weights, weight)
	}
	return weights
}

// The nodes tell each other nothing: all that they know is from the registration.
func TestEveryNodeShowsTheInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		nodes := n.lazyNodes()
		// Of two more that are configured one is not there and the other says nothing.
		n.hang("10.0.0.9:6666")
		c := n.client(append(slices.Clone(three), "10.0.0.8:6666", "10.0.0.9:6666"))
		inst := instance("s", 1)
		inst.Weight = 5
		r := mustRegister(t, c, inst)
		want := func(when string, within time.Duration, weight uint32) {
			t.Helper()
			pass(within)
			if got := n.shown(); !slices.Equal(got, []uint32{weight, weight, weight}) {
				t.Errorf("%s the nodes show the weights %v, want %d", when, got, weight)
			}
		}
		want("soon after the register", 8*time.Second, 5)
		inst.Weight = 7
		if err := r.Update(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
		want("soon after an update", 10*time.Second, 7)
		nodes[1].drop("s", "i1")
		want("after one has lost it", 6*time.Minute+10*time.Second, 7)
		for i, addr := range three {
			stale := inst
			stale.Weight = 1
			nodes[i].put(stale)
			want("after "+addr+" has gone back to an old one", 6*time.Minute+10*time.Second, 7)
		}
		nodes[2] = noNodes(n.registry(three[2]))
		want("after one has come back empty", 6*time.Minute+10*time.Second, 7)

		if err := r.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		want("after the end", 0, 0)
		want("long after the end", time.Hour, 0)
	})
}

// What is checked at other nodes in a large service is bounded as well.
func TestOtherNodesOfLargeServicesAreRarelyAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		nodes := n.lazyNodes()
		for i := range 3000 {
			inst := instance("s", i+10)
			inst.Addrs = []string{"h" + inst.ID + ":1"}
			nodes[0].put(inst)
		}
		c := n.client(three, WithMaxResponse(1<<30))
		c.nodes.start = 0
		const mine = 20
		for i := range mine {
			inst := instance("s", i+5000)
			inst.Addrs = []string{"h" + inst.ID + ":1"}
			mustRegister(t, c, inst)
		}
		pass(5 * time.Second)
		asked := len(nodes[1].asked(wire.PathFetch, time.Time{})) + len(nodes[2].asked(wire.PathFetch, time.Time{}))
		if asked > 2*mine-6 { // which comes once in millions of times
			t.Errorf("the other nodes were asked %d times for %d instances, want %d of %d times or so", asked, mine, 2*mine/3, 2*mine)
		}
	})
}
