package balancer

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/attributes"
	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/balancer/weight"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/registry"
)

func TestSameContentCostsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		set := []registry.Instance{server("a/1", weighing(3)), server("b/1"), server("c/1", draining)}
		b.resolve(WeightedRoundRobin{}, set...)
		b.ready("a", "b", "c")
		snapshot, position := b.picker.snapshot.Load(), b.position.phase.Load()
		b.wantPublished("the same set", 0, func() {
			b.resolve(WeightedRoundRobin{}, set...)
			slices.Reverse(set)
			b.resolve(WeightedRoundRobin{}, set...)
			b.pass()
		})
		if b.picker.snapshot.Load() != snapshot || b.position.phase.Load() != position {
			t.Error("the snapshot or the position has changed")
		}
		if got := b.cc.Created(); got != 3 {
			t.Errorf("%d connections made, want 3", got)
		}
		s := stateOf(set...)
		cfg := configWith(WeightedRoundRobin{})
		if allocs := testing.AllocsPerRun(100, func() {
			b.UpdateClientConnState(gbalancer.ClientConnState{BalancerConfig: cfg, ResolverState: s})
		}); allocs > 0 {
			t.Errorf("the same set costs %v allocations", allocs)
		}
	})
}

func TestChangesKeepConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(WeightedRoundRobin{}, server("a", weighing(5)), server("b"), server("c"))
		b.ready("a", "b", "c")
		b.wantPicks(7, map[string]int{"a": 5, "b": 1, "c": 1})
		b.resolve(WeightedRoundRobin{}, server("a"), server("b", weighing(2)), server("c"))
		b.wantPicks(4, map[string]int{"a": 1, "b": 2, "c": 1})
		b.resolve(RoundRobin{}, server("a"), server("b", weighing(2)), server("c"))
		b.wantPicks(30, map[string]int{"a": 10, "b": 10, "c": 10})
		b.resolve(Random{}, server("a"), server("b", weighing(2)), server("c"))
		if got := count(b.picks(t.Context(), 4000)); got["b"] < 1700 || got["b"] > 2300 {
			t.Errorf("random picked %v, want b half of the time", got)
		}
		b.resolve(RoundRobin{}, server("c"), server("a")) // b goes
		b.wantPicks(4, map[string]int{"a": 2, "c": 2})
		b.pass()
		if got := len(b.picker.snapshot.Load().ready); got != 2 {
			t.Errorf("%d connections in the snapshot, want 2", got)
		}
		if created, left := b.cc.Created(), len(b.cc.SubConns()); created != 3 || left != 2 {
			t.Errorf("%d connections made, %d left, want 3 and 2", created, left)
		}
	})
}

func TestRotationGoesOnThroughChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		set := servers("a", "b", "c", "d")
		b.resolve(RoundRobin{}, set...)
		b.ready("a", "b", "c", "d")
		for range 1000 {
			slices.Reverse(set)
			b.resolve(WeightedRoundRobin{}, set...)
			first := b.picks(t.Context(), 2)
			b.resolve(RoundRobin{}, set...)
			if got := count(append(first, b.picks(t.Context(), 2)...)); len(got) != 4 {
				t.Fatalf("four picks went to %v, want one to each", got)
			}
		}
	})
}

func TestAnotherLifeIsAnotherInstance(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a/1", "b/1")...)
		b.ready("b")
		b.fail("a")
		old := b.sub("a")
		b.resolve(RoundRobin{}, servers("a/2", "b/1")...)
		if !old.IsShutdown() {
			t.Error("the connection to the old process is still there")
		}
		if b.sub("a") == old || b.sub("a").Connects() != 1 {
			t.Error("the new process is not connected at once")
		}
		b.ready("a")
		b.wantPicks(2, map[string]int{"a": 1, "b": 1})
	})
}

func TestTwoLivesOfOneID(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		old, successor := server("a/1"), server("a/2", at("b:1"))
		b.resolve(RoundRobin{}, old, successor)
		b.ready("a", "b")
		b.wantPicks(2, map[string]int{"a": 1, "b": 1})
		b.resolve(RoundRobin{}, successor)
		b.wantPicks(2, map[string]int{"b": 2})
	})
}

func TestChangedAddressReconnectsTheSameInstance(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a/1", "b/1")...)
		b.ready("a", "b")
		b.resolve(RoundRobin{}, server("a/1", at("x:1")), server("b/1"))
		b.wantPicks(2, map[string]int{"b": 2})
		b.ready("x")
		b.wantPicks(2, map[string]int{"x": 1, "b": 1})
		if got := len(b.order); got != 2 {
			t.Errorf("%d instances, want 2", got)
		}
	})
}

func TestSeveralAddressesAreOneInstance(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, server("a/1", at("a4:1", "a6:1")), server("b/1"))
		b.ready("b")
		b.fail("a4")
		b.ready("a6")
		b.wantPicks(4, map[string]int{"a6": 2, "b": 2})
		ctx, rec := b.recorded()
		b.picks(ctx, 2)
		for _, a := range rec.Attempts() {
			if a.Target.ID == "a" && a.Target.Addr != "a6:1" {
				t.Errorf("recorded %+v, want the address that is connected", a.Target)
			}
		}
	})
}

func TestEndpointsNamedTwiceOrWithoutAddressesDoNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		s := stateOf(servers("a/1", "a/1", "b/1")...)
		s.Endpoints = append(s.Endpoints, gresolver.Endpoint{})
		if err := b.UpdateClientConnState(gbalancer.ClientConnState{ResolverState: s}); err != nil {
			t.Fatal(err)
		}
		if got := b.cc.Created(); got != 2 {
			t.Errorf("%d connections, want 2", got)
		}
		b.resolve(RoundRobin{}, servers("a/1", "b/1", "c/1")...)
		b.resolve(RoundRobin{}, server("a/1"), server("a/1", weighing(5)), server("b/1"))
		if got := len(b.cc.SubConns()); got != 2 || b.order[0].weight != 1 {
			t.Errorf("%d connections and a weight of %d, want that a counts once and c is gone", got, b.order[0].weight)
		}
		none := gresolver.State{Endpoints: []gresolver.Endpoint{{}}}
		if err := b.UpdateClientConnState(gbalancer.ClientConnState{ResolverState: none}); !errors.Is(err, gbalancer.ErrBadResolverState) {
			t.Errorf("error %v for a state without an address", err)
		}
	})
}

func TestOtherResolversEndpoints(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		endpoints := func() []gresolver.Endpoint {
			return []gresolver.Endpoint{
				weight.Set(gresolver.Endpoint{Addresses: []gresolver.Address{{Addr: "a:1"}}}, weight.EndpointInfo{Weight: 3}),
				{Addresses: []gresolver.Address{{Addr: "b:1", Attributes: attributes.New("k", "v")}}},
			}
		}
		update := func() {
			b.UpdateClientConnState(gbalancer.ClientConnState{ResolverState: gresolver.State{Endpoints: endpoints()}})
		}
		update()
		b.ready("a", "b")
		addrs := &b.order[1].addrs[0]
		b.wantPublished("the same set", 0, update)
		if &b.order[1].addrs[0] != addrs {
			t.Error("the same addresses were taken for others")
		}
		b.wantPicks(8, map[string]int{"a": 6, "b": 2})
		ctx, rec := b.recorded()
		rec.Pin("b:1")
		if got := b.picks(ctx, 1); got[0] != "b" {
			t.Errorf("pinned the address b:1, picked %v", got)
		}
	})
}

func TestWrongConfigIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		type other struct {
			serviceconfig.LoadBalancingConfig
		}
		err := b.UpdateClientConnState(gbalancer.ClientConnState{BalancerConfig: other{}, ResolverState: stateOf(servers("a")...)})
		if !errors.Is(err, gbalancer.ErrBadResolverState) || !strings.Contains(err.Error(), "other") {
			t.Errorf("error %v", err)
		}
	})
}

func TestChangesWhileNobodyIsReady(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		set := []registry.Instance{server("a", weighing(3)), server("b")}
		b.resolve(WeightedRoundRobin{}, set...)
		b.ready("a", "b")
		a := b.sub("a")
		for _, id := range []string{"a", "b"} {
			b.sub(id).Set(connectivity.Idle, nil)
		}
		b.pass()
		b.resolve(Random{}, set...)
		a.Ready()
		if _, ok := b.picker.snapshot.Load().schedule.(raffle); !ok {
			t.Errorf("picks go by %T", b.picker.snapshot.Load().schedule)
		}
		b.wantPicks(2, map[string]int{"a": 2})
	})
}

func TestAnotherServerNameIsAnotherConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		named := func(name string) {
			s := stateOf(servers("a/1")...)
			s.Endpoints[0].Addresses[0].ServerName = name
			b.UpdateClientConnState(gbalancer.ClientConnState{ResolverState: s})
		}
		named("one")
		b.ready("a")
		old := b.sub("a")
		named("two")
		if !old.IsShutdown() || len(b.cc.SubConns()) != 1 {
			t.Error("still connected under the old server name")
		}
	})
}
