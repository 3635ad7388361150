package balancer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/pick"
	"github.com/rollcall-go/rollcall/registry"
)

// forEachPicker runs test in a bubble with each picker.

func forEachPicker(t *testing.T, test func(t *testing.T, p Picker, b *bed)) {
	for name := range pickers {
		t.Run(name, func(t *testing.T) {
			p, err := ParsePicker(name)
			if err != nil {
				t.Fatal(err)
			}
			inBubble(t, func(t *testing.T, b *bed) { test(t, p, b) })
		})
	}
}

func TestAvoid(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		b.resolve(p, server("a", weighing(1000)), server("b"), server("c"))
		b.ready("a", "b", "c")
		for range 100 {
			ctx, rec := b.recorded()
			rec.Avoid("a")
			tried := b.picks(ctx, 2)
			slices.Sort(tried)
			if !slices.Equal(tried, []string{"b", "c"}) {
				t.Fatalf("tried %v, want b and c", tried)
			}
			b.picks(ctx, 2) // all are avoided now: a preference is dropped
		}
	})
}

func TestAvoidingOneSharesItsCallsAmongTheOthers(t *testing.T) {
	for _, p := range []Picker{RoundRobin{}, WeightedRoundRobin{}} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.resolve(p, servers("a", "b", "c", "d")...)
			b.ready("a", "b", "c", "d")
			picked := map[string]int{}
			for range 300 {
				ctx, rec := b.recorded()
				rec.Avoid("b")
				picked[b.picks(ctx, 1)[0]]++
			}
			if want := map[string]int{"a": 100, "c": 100, "d": 100}; fmt.Sprint(picked) != fmt.Sprint(want) {
				t.Errorf("%T picked %v, want %v", p, picked, want)
			}
		})
	}
}

// An instance that has failed this call is worse than one that only drains.

func TestAvoidWeighsMoreThanDraining(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		b.resolve(p, server("a"), server("b", draining))
		b.ready("a", "b")
		for range 20 {
			ctx, rec := b.recorded()
			if got := b.picks(ctx, 2); !slices.Equal(got, []string{"a", "b"}) {
				t.Fatalf("tried %v, want a, then the draining b", got)
			}
			rec.Avoid("b")
			if got := b.picks(ctx, 1); got[0] != "a" {
				t.Fatalf("picked the draining %v when all are avoided", got)
			}
		}
	})
}

func TestPin(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		b.resolve(p, server("a"), server("b"), server("c", draining), server("d"))
		pinned := func(id string) error {
			ctx, rec := b.recorded()
			rec.Avoid(id) // an order weighs more than a preference
			rec.Pin(id)
			before := rec.Mark()
			got, done, err := b.call(ctx)
			if err == nil && got != id {
				t.Errorf("pinned %s, picked %s", id, got)
			}
			if _, class := rec.Since(before); err != nil && class != pick.NeverPicked {
				t.Errorf("pinned %s: %v is of class %v", id, err, class)
			}
			if done != nil {
				done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
			}
			return err
		}
		wantUnavailable := func(id, text string) {
			t.Helper()
			if err := pinned(id); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), text) {
				t.Errorf("pinned %s: %v, want Unavailable and %q", id, err, text)
			}
		}
		if err := pinned("a"); err != gbalancer.ErrNoSubConnAvailable {
			t.Errorf("pinned while connecting: %v, want that the call waits", err)
		}
		wantUnavailable("x", "pinned instance x is gone")
		b.ready("a", "b", "c")
		b.fail("d")
		for _, id := range []string{"a", "b", "c"} {
			if err := pinned(id); err != nil {
				t.Errorf("pinned %s: %v", id, err)
			}
		}
		wantUnavailable("d", "pinned instance d cannot be connected: d refuses")
		b.resolve(p, server("a"), server("b"), server("c", draining))
		wantUnavailable("d", "pinned instance d is gone")
		b.fail("a", "b", "c")
		wantUnavailable("a", "cannot be connected: a refuses")
	})
}

// Whoever waits for a pinned instance learns what becomes of it: gRPC asks again

// only when a picker is published.

func TestPinnedCallIsWokenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.ready("a")
		for _, step := range []struct {
			what string
			do   func()
		}{
			{"b becoming ready", b.sub("b").Ready},
			{"b lost", func() { b.sub("b").Set(connectivity.Idle, nil) }},
			{"b failing", func() { b.sub("b").Fail(errors.New("no")) }},
			{"b gone", func() { b.resolve(RoundRobin{}, servers("a")...) }},
		} {
			before := b.cc.Published()
			step.do()
			b.pass()
			if b.cc.Published() == before {
				t.Errorf("nothing published after %s", step.what)
			}
		}
	})
}

func TestClassify(t *testing.T) {
	failed := status.Error(codes.Unavailable, "x")
	for _, tt := range []struct {
		name  string
		info  gbalancer.DoneInfo
		marks drain.Marks
		class pick.Class
		used  bool
	}{
		{"never used", gbalancer.DoneInfo{}, drain.Marks{}, pick.NotSent, false},
		{"no stream", gbalancer.DoneInfo{Err: failed}, drain.Marks{}, pick.NotSent, true},
		{"nothing came back", gbalancer.DoneInfo{Err: failed, BytesSent: true}, drain.Marks{}, pick.Unanswered, true},
		{"a failure came back", gbalancer.DoneInfo{Err: failed, BytesSent: true, BytesReceived: true}, drain.Marks{}, pick.Answered, true},
		{"a closing server's failure", gbalancer.DoneInfo{Err: failed, BytesSent: true, BytesReceived: true}, drain.Marks{Closing: true}, pick.Answered, true},
		{"refused", gbalancer.DoneInfo{Err: failed, BytesSent: true, BytesReceived: true}, drain.Marks{Closing: true, NotExecuted: true}, pick.Refused, true},
		{"success", gbalancer.DoneInfo{BytesSent: true, BytesReceived: true}, drain.Marks{}, pick.Answered, true},
		{"success of a stream without messages", gbalancer.DoneInfo{BytesSent: true}, drain.Marks{}, pick.Answered, true},
		{"success that claims not to be one", gbalancer.DoneInfo{BytesSent: true, BytesReceived: true}, drain.Marks{NotExecuted: true}, pick.Answered, true},
	} {
		if class, used := classify(&tt.info, tt.marks); class != tt.class || used != tt.used {
			t.Errorf("%s: %v, %v; want %v, %v", tt.name, class, used, tt.class, tt.used)
		}
	}
}

func TestRecordLearnsHowEachAttemptEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a/1", "b/1")...)
		ctx, rec := b.recorded()
		b.wantWaiting(ctx)
		if _, class := rec.Since(pick.Mark{}); class != pick.NeverPicked {
			t.Errorf("a call that waits is of class %v", class)
		}
		b.ready("a", "b")
		boom := status.Error(codes.Unavailable, "boom")
		end := func(info gbalancer.DoneInfo) string {
			id, done, err := b.call(ctx)
			if err != nil {
				t.Fatal(err)
			}
			done(info)
			return id
		}
		unused := end(gbalancer.DoneInfo{})
		first := end(gbalancer.DoneInfo{Err: boom, BytesSent: true, BytesReceived: true, Trailer: drain.NotExecuted("a", "1")})
		if first == unused {
			t.Errorf("picked %s again, whose connection was just found lost", first)
		}
		end(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})

		attempts := rec.Attempts()
		if len(attempts) != 2 {
			t.Fatalf("%d attempts, want 2: %+v", len(attempts), attempts)
		}
		want := pick.Answered
		if first == "a" {
			want = pick.Refused
		}
		if a := attempts[0]; a.Target != (pick.Target{ID: first, Life: "1", Addr: first + ":1"}) || a.Class != want || a.Err != boom || !a.Ended {
			t.Errorf("first attempt %+v, want %v", a, want)
		}
		if a := attempts[1]; a.Class != pick.Answered || a.Err != nil || !a.Ended {
			t.Errorf("second attempt %+v", a)
		}
	})
}

// A record belongs to one call: one that another interceptor makes on its way

// leaves it alone.

func TestAnotherCallsRecordIsLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.ready("a", "b")
		ctx, rec := pick.NewCall(t.Context(), "/shop.Orders/Pay")
		rec.Pin("x")
		if got := b.picks(ctx, 2); len(got) != 2 || len(rec.Attempts()) != 0 {
			t.Errorf("picked %v, recorded %v", got, rec.Attempts())
		}
	})
}

// The mark counts too when the connection was lost before it came.

// The mark of an answer that comes late counts for the instance that came back.

func TestPickAndDoneAllocateNothing(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		info := gbalancer.PickInfo{Ctx: t.Context()}
		check := func(what string) {
			picker := b.cc.State().Picker
			for _, info.FullMethodName = range []string{"", unaryMethod, streamMethod} {
				if allocs := testing.AllocsPerRun(1000, func() {
					result, _ := picker.Pick(info)
					result.Done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
				}); allocs > 0 {
					t.Errorf("%v allocations per call of %q %s", allocs, info.FullMethodName, what)
				}
			}
		}
		insts := []registry.Instance{server("a/1", weighing(5), in("here")), server("b/1", in("there"))}
		b.resolve(p, insts...)
		b.ready("a", "b")
		check("without features")
		b.resolveWith(configWith(p, ejecting(), func(s *settings) {
			s.zone, _ = Zone{Local: "here"}.complete()
			s.slowStart, _ = SlowStart{Window: Duration(time.Hour)}.complete()
		}), insts...)
		b.report(gauges{}) // somebody collects
		b.pass()
		check("with features")
		b.position.crowded.Store(true)
		check("in a crowd")
	})
}
