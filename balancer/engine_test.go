package balancer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/pick"
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

// While one process replaces another under the same ID, both may be known.

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
	for _, p := range pickersForTest() {
		t.Run(fmt.Sprintf("%T", p), func(t *testing.T) {
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

// Of two picks that find the snapshot outdated the second looks at the new one, too.
func TestPickThatFindsAnotherHasRefreshed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.ready("a")
		b.sub("b").Ready()                                                             // gathered, not yet in the snapshot
		b.sub("a").SetHealth(connectivity.TransientFailure, errors.New("not serving")) // published at once
		p := &b.picker
		old := p.snapshot.Load()
		// the second pick has looked at the snapshot
		c, o, _ := old.choose(nil)
		// the first pick
		if _, _, err := b.call(t.Context()); err != nil {
			t.Fatal(err)
		}
		// the second goes on, as in Pick
		if o > objection(old.worst) {
			c, _, _ = b.refresh().choose(nil)
		}
		if c == nil {
			before := b.cc.Published()
			time.Sleep(time.Hour)
			t.Errorf("b is ready, and the pick waits; pickers published in the next hour: %d", b.cc.Published()-before)
		}
	})
}

func TestNoPickWaitsWhileSomebodyIsReady(t *testing.T) {
	lost := 0
	for range 300 {
		inBubble(t, func(t *testing.T, b *bed) {
			b.resolve(RoundRobin{}, servers("a", "b")...)
			b.ready("a")
			b.sub("b").Ready()
			b.sub("a").Set(connectivity.Idle, nil)
			var wg sync.WaitGroup
			var mu sync.Mutex
			picker := b.cc.State().Picker
			for range 8 {
				wg.Go(func() {
					if _, err := picker.Pick(gbalancer.PickInfo{Ctx: t.Context()}); errors.Is(err, gbalancer.ErrNoSubConnAvailable) {
						mu.Lock()
						lost++
						mu.Unlock()
					}
				})
			}
			wg.Wait()
		})
	}
	if lost > 0 {
		t.Errorf("%d picks were told to wait while b was ready", lost)
	}
}
