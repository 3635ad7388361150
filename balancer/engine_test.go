package balancer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/attributes"
	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/balancer/weight"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/pick"
	"github.com/rollcall-go/rollcall/registry"
)

func TestOnlyReadyInstancesArePicked(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		if err := b.resolve(RoundRobin{}, servers("a", "b", "c")...); err != nil {
			t.Fatal(err)
		}
		b.wantState(connectivity.Connecting)
		b.wantWaiting(t.Context())
		b.ready("a", "b")
		b.wantPicks(4, map[string]int{"a": 2, "b": 2})
		b.ready("c")
		b.wantPicks(6, map[string]int{"a": 2, "b": 2, "c": 2})
	})
}

func TestFirstReadyIsPublishedAtOnceAndOthersTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var names []string
		for i := range 100 {
			names = append(names, fmt.Sprintf("s%02d", i))
		}
		b.resolve(RoundRobin{}, servers(names...)...)
		b.wantPublished("the first READY", 1, b.sub("s00").Ready)
		b.wantState(connectivity.Ready)
		b.wantPicks(2, map[string]int{"s00": 2})
		b.wantPublished("99 more READY", 1, func() { b.ready(names[1:]...) })
		if got := count(b.picks(t.Context(), 100)); len(got) != 100 {
			t.Errorf("picked %d instances, want all 100", len(got))
		}
	})
}

func TestLossOfReadyIsPublishedInTheSameCallback(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b", "c")...)
		b.ready("a", "b", "c")
		b.wantPublished("the loss of one of three", 1, func() { b.sub("b").Set(connectivity.Idle, nil) })
		before := b.picker.snapshot.Load()
		b.wantPicks(20, map[string]int{"a": 10, "c": 10}) // nothing has settled yet, and the others share alike
		if b.picker.snapshot.Load() != before {
			t.Error("a loss made a new snapshot at once: many of them cost its square")
		}
		b.pass()
		if got := len(b.picker.snapshot.Load().ready); got != 2 {
			t.Errorf("%d connections in the snapshot, want 2", got)
		}
		b.wantPublished("the loss of another one", 1, func() { b.sub("a").Set(connectivity.Idle, nil) })
		b.wantPicks(3, map[string]int{"c": 3})
		b.sub("c").Set(connectivity.Idle, nil)
		if state := b.cc.State().ConnectivityState; state == connectivity.Ready {
			t.Error("still READY after the last connection was lost")
		}
		b.wantWaiting(t.Context())
	})
}

// A connection that comes while the last one of the snapshot goes is not put off.
func TestLossOfAllKnownToTheSnapshotTakesInTheNewOnes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.ready("a")
		b.sub("b").Ready() // put off
		b.sub("a").Set(connectivity.Idle, nil)
		b.wantState(connectivity.Ready)
		b.wantPicks(2, map[string]int{"b": 2})
	})
}

func TestIdleChildrenConnectAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a")...)
		b.ready("a")
		before := b.sub("a").Connects()
		b.sub("a").Set(connectivity.Idle, nil)
		synctest.Wait()
		if got := b.sub("a").Connects() - before; got != 1 {
			t.Errorf("connected %d times after the loss, want once", got)
		}
		b.ExitIdle() // already connecting: nothing to do
		b.wantState(connectivity.Connecting)
		b.sub("a").Set(connectivity.Connecting, nil)
		b.sub("a").Set(connectivity.Ready, nil)
		b.wantPicks(1, map[string]int{"a": 1})
	})
}

func TestAFlapOfTheSameConnectionCostsNoNewSnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(WeightedRoundRobin{}, servers("a", "b")...)
		b.ready("a", "b")
		before := b.picker.snapshot.Load()
		b.sub("a").Set(connectivity.Idle, nil)
		synctest.Wait()
		b.ready("a")
		if b.picker.snapshot.Load() != before {
			t.Error("the snapshot was made anew for a connection that is back")
		}
		b.wantPicks(4, map[string]int{"a": 2, "b": 2})
	})
}

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
		cfg := &config{picker: WeightedRoundRobin{}}
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

// While one process replaces another under the same ID, both may be known.
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

func TestUnhealthyIsNotReady(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.ready("a", "b")
		b.wantPublished("a failed health check", 1, func() {
			b.sub("a").SetHealth(connectivity.TransientFailure, errors.New("NOT_SERVING"))
		})
		b.wantPicks(2, map[string]int{"b": 2})
		b.sub("a").SetHealth(connectivity.Ready, nil)
		b.pass()
		b.wantPicks(2, map[string]int{"a": 1, "b": 1})
	})
}

func TestAggregatedState(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.fail("a")
		b.wantState(connectivity.Connecting) // b still connects
		b.fail("b")
		b.wantState(connectivity.TransientFailure)
		b.sub("a").Set(connectivity.Idle, nil) // its backoff has ended; gRPC's own policies stay in TRANSIENT_FAILURE too
		b.pass()
		b.wantState(connectivity.TransientFailure)
		b.ready("a")
		b.wantState(connectivity.Ready)
	})
}

func TestErrorSaysWhoCannotBeConnectedAndWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b", "c", "d", "e", "f", "g")...)
		b.fail("a", "b", "c", "d", "e", "f", "g")
		b.wantError(t.Context(), "rollcall: none of the 7 known instances can be connected: a (a:1): a refuses; b (b:1): b refuses", "e refuses; and 2 more")
		b.sub("a").Fail(status.Error(codes.DataLoss, "a has "+strings.Repeat("very ", 1000)+"much to say"))
		b.pass()
		b.wantError(t.Context(), "a has very very")
		_, _, err := b.call(t.Context())
		if len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		if _, ok := status.FromError(err); ok {
			t.Error("the error is a status: that ends wait-for-ready calls")
		}
		b.ResolverError(status.Error(codes.Unavailable, "no registry node answers"))
		b.wantError(t.Context(), "7 known instances", "and 2 more; resolver: rpc error: code = Unavailable desc = no registry node answers")
		_, _, err = b.call(t.Context())
		if _, ok := status.FromError(err); ok {
			t.Error("the error is a status: that ends wait-for-ready calls")
		}
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.wantError(t.Context(), "2 known instances")
		if _, _, err := b.call(t.Context()); strings.Contains(err.Error(), "resolver") {
			t.Errorf("%v, though the resolver is well again", err)
		}
		b.ready("b")
		b.wantPicks(1, map[string]int{"b": 1})
	})
}

func TestResolverErrors(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.ResolverError(errors.New("no registry node answers"))
		b.wantState(connectivity.TransientFailure)
		b.wantError(t.Context(), "rollcall: resolver: no registry node answers")
		b.resolve(RoundRobin{}, servers("a")...)
		b.ready("a")
		b.wantPublished("an error after a good state", 0, func() {
			b.ResolverError(errors.New("no registry node answers"))
			b.pass()
		})
		b.wantPicks(1, map[string]int{"a": 1})
	})
}

func TestEmptyListClosesEverythingAndSaysWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		empty := endpoint.SetReason(gresolver.State{}, `service "echo" is unknown in env "prod"`)
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.ready("a", "b")
		for range 2 {
			if err := b.UpdateClientConnState(gbalancer.ClientConnState{ResolverState: empty}); !errors.Is(err, gbalancer.ErrBadResolverState) {
				t.Errorf("error %v, want ErrBadResolverState", err)
			}
			b.wantState(connectivity.TransientFailure)
			b.wantError(t.Context(), `rollcall: no instance to call: service "echo" is unknown in env "prod"`)
		}
		if left := b.cc.SubConns(); len(left) > 0 {
			t.Errorf("%d connections are left", len(left))
		}
		b.ResolverError(errors.New(`service "echo" is unknown in env "prod"`))
		if _, _, err := b.call(t.Context()); strings.Count(err.Error(), "unknown") != 1 {
			t.Errorf("%v: the same twice", err)
		}
		b.ResolverError(errors.New("produced zero addresses"))
		b.wantError(t.Context(), `unknown in env "prod"; resolver: produced zero addresses`)
		if err := b.resolve(RoundRobin{}); err == nil {
			t.Error("no error for an empty list")
		}
		b.wantError(t.Context(), "the resolver names none")
		b.resolve(RoundRobin{}, servers("a")...)
		b.ready("a")
		b.wantPicks(1, map[string]int{"a": 1})
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

func TestNothingIsPublishedAfterClose(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b", "c")...)
		b.ready("a")
		a, c := b.sub("a"), b.sub("b")
		c.Ready() // its publication is put off
		begin, child := time.Now(), b.order[0]
		b.Close()
		if time.Since(begin) > 0 {
			t.Error("Close waited for a timer")
		}
		b.wantPublished("a closed engine", 0, func() {
			a.Set(connectivity.Idle, nil)
			child.UpdateState(gbalancer.State{ConnectivityState: connectivity.Idle})
			b.ResolverError(errors.New("late"))
			time.Sleep(time.Minute)
		})
		b.Close()
	})
}

func TestReserve(t *testing.T) {
	for _, p := range []Picker{Random{}, RoundRobin{}, WeightedRoundRobin{}} {
		t.Run(p.name(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.resolve(p, server("a", draining), server("b"), server("c", draining))
				b.ready("a", "b", "c")
				b.wantPicks(10, map[string]int{"b": 10})
				if got := len(b.cc.SubConns()); got != 3 {
					t.Errorf("%d connections, want that draining instances keep theirs", got)
				}
				b.sub("b").Set(connectivity.Idle, nil)
				if got := count(b.picks(t.Context(), 100)); len(got) != 2 || got["b"] > 0 {
					t.Errorf("with only draining instances left, picked %v", got)
				}
				b.ready("b")
				b.wantPicks(10, map[string]int{"b": 10})
				b.resolve(p, server("a"), server("b", draining), server("c", draining))
				b.wantPicks(10, map[string]int{"a": 10})
			})
		})
	}
}

// What changes while nobody is ready is in force as soon as somebody is.
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
		if _, ok := b.picker.snapshot.Load().schedule.(lottery); !ok {
			t.Errorf("picks go by %T", b.picker.snapshot.Load().schedule)
		}
		b.wantPicks(2, map[string]int{"a": 2})
	})
}

// A child may call back while it is being removed.
func TestCallbackOfARemovedChildIsIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.ready("a", "b")
		removed := b.order[0]
		b.resolve(RoundRobin{}, servers("b")...)
		b.wantPublished("a removed child", 0, func() {
			removed.UpdateState(gbalancer.State{ConnectivityState: connectivity.Idle})
			b.pass()
		})
		b.sub("b").Set(connectivity.Idle, nil)
		if got := b.cc.State().ConnectivityState; got == connectivity.Ready {
			t.Error("READY with nobody ready")
		}
	})
}

func TestAPickOnAPickerThatIsOutOfDateWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a")...)
		b.ready("a")
		picker := b.cc.State().Picker
		b.fail("a")
		for _, ctx := range []context.Context{t.Context(), first(b.recorded())} {
			if _, err := picker.Pick(gbalancer.PickInfo{Ctx: ctx}); err != gbalancer.ErrNoSubConnAvailable {
				t.Errorf("%v, want that the call waits", err)
			}
			if rec := pick.FromContext(ctx); rec != nil {
				if _, class := rec.Since(pick.Mark{}); class != pick.NeverPicked {
					t.Errorf("class %v", class)
				}
			}
		}
	})
}

func first[A, B any](a A, _ B) A { return a }

// Clients that start together must not all call the same instance first.
func TestClientsStartAtDifferentInstances(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		starts := map[uint64]bool{}
		for range 64 {
			starts[newEngine(b.cc, gbalancer.BuildOptions{}).position.phase.Load()>>62] = true
		}
		if len(starts) < 2 {
			t.Error("64 clients start in the same quarter of the turn")
		}
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
