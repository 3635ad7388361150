package balancer

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/pick"
)

// ejecting switches ejection on, with what change does to its defaults.
func ejecting(change ...func(*Ejection)) func(*settings) {
	e, err := Ejection{}.complete()
	if err != nil {
		panic(err)
	}
	for _, c := range change {
		c(&e)
	}
	return func(s *settings) { s.ejection = e }
}

func bySharesOnly(e *Ejection) { e.ConsecutiveFailures = 1 << 30 }

func withoutStalls(s *settings) { s.stall.Off = true }

var refusing = answer{after: time.Millisecond, err: errUnavailable}

func TestFailingInstanceIsEjectedAndComesBack(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		b.up(configWith(p, ejecting()), fourServers...)
		sick := 20 * time.Second
		calls := b.load(400, 60*time.Second, until(sick, always("a", refusing), healthy))
		// Five failures in a row, which is what it takes, and after 2, 4 and 8 seconds
		// one trial each.
		if n := between(calls, "a", 0, sick); n < 5 || n > 15 {
			t.Errorf("a got %d calls in the 20 seconds in which it failed", n)
		}
		if n := between(calls, "a", 50*time.Second, 60*time.Second); n < 850 || n > 1150 {
			t.Errorf("30 seconds after it has recovered a gets %d of 4000 calls", n)
		}
		b.wantSuspects()
	})
}

// contextWithCause returns a context that cancel ends with this cause.
func contextWithCause(ctx context.Context, cause error) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, func() { cancel(cause) }
}

// wantEjected ejects from a, b, c and d under a load, and checks who is out then.
func wantEjected(t *testing.T, cfg func(*settings), perSecond int, lasts time.Duration, answers behaviour, want ...string) {
	t.Helper()
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, cfg), fourServers...)
		b.load(perSecond, lasts, answers)
		b.wantSuspects(want...)
	})
}

func TestWhatSpeaksAgainstAnInstance(t *testing.T) {
	every := func(n int, id string, a answer) behaviour {
		calls := 0
		return func(picked string, _ time.Duration) answer {
			if picked != id {
				return fast
			}
			if calls++; calls%n == 0 {
				return a
			}
			return fast
		}
	}
	const second = time.Second
	wantEjected(t, ejecting(), 1000, second, always("b", refusing), "b")
	wantEjected(t, ejecting(), 1000, second, always("b", answer{time.Millisecond, errNotFound}))
	wantEjected(t, ejecting(), 1000, second, every(2, "b", refusing))
	wantEjected(t, func(*settings) {}, 1000, second, always("b", refusing)) // it is off by default

	for _, perSecond := range []int{40, 1000} {
		// Half of the calls fail, or one in six; one in sixteen is within the tolerance.
		wantEjected(t, ejecting(), perSecond, 6*second, every(2, "b", refusing), "b")
		wantEjected(t, ejecting(), perSecond, 6*second, every(6, "b", refusing), "b")
		wantEjected(t, ejecting(), perSecond, 6*second, every(16, "b", refusing))
	}
	wantEjected(t, ejecting(func(e *Ejection) { e.Tolerance = 0.05 }), 1000, 6*second, every(12, "b", refusing), "b")

	// Chance: one failure of 25 calls says nothing, nor do 4 of 50 where the others have had
	// 150 and none (all four are with the same one in 16 of 1,000 times); 50 of 1,250 do.
	strict := func(e *Ejection) { e.Tolerance = 0.01 }
	wantEjected(t, ejecting(strict), 40, 6*second, every(12, "b", refusing))
	wantEjected(t, ejecting(strict), 20, 6*second, every(25, "b", refusing))
	wantEjected(t, ejecting(strict), 1000, 6*second, every(25, "b", refusing), "b")

	// Ten calls are too few to compare, if all of them fail.
	wantEjected(t, ejecting(bySharesOnly), 8, 6*second, always("b", refusing))
	wantEjected(t, ejecting(bySharesOnly), 80, 6*second, always("b", refusing), "b")

	// Where all fail alike nobody is worse than the others.
	half := func() behaviour {
		calls := 0
		return func(string, time.Duration) answer {
			if calls++; calls/4%2 == 0 {
				return refusing
			}
			return fast
		}
	}
	wantEjected(t, ejecting(), 40, 6*second, half())
	wantEjected(t, ejecting(), 1000, 6*second, half())
}

// A caller's own deadline and cancel never count; a policy's time limit does.
func TestWhoseTimeLimitCounts(t *testing.T) {
	for cause, want := range map[error][]string{nil: nil, pick.ErrTimeout: {"a"}} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.up(configWith(RoundRobin{}, ejecting(), withoutStalls), fourServers...)
			for range 100 {
				ctx, rec := b.recorded()
				rec.SetUnary()
				ctx, cancel := contextWithCause(ctx, cause)
				id, done, err := b.call(ctx)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
				cancel()
				info := gbalancer.DoneInfo{BytesSent: true}
				if id == "a" {
					info.Err = errDeadline
				} else {
					info.BytesReceived = true
				}
				done(info)
			}
			b.wantSuspects(want...)
		})
	}
}

func TestEjectionGrowsAndDecays(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		calls := b.load(1000, 100*time.Second, always("a", refusing))
		var trials []time.Duration
		for _, c := range calls {
			if c.id == "a" && c.at > time.Second {
				trials = append(trials, c.at.Round(time.Second))
			}
		}
		if got, want := fmt.Sprint(trials), "[2s 6s 14s 30s 50s 1m10s 1m30s]"; got != want {
			t.Errorf("trials at %v, want %v", got, want)
		}
		b.load(1000, time.Minute, healthy)
		calls = b.load(1000, 10*time.Second, always("a", refusing))
		if n := between(calls, "a", 1900*time.Millisecond, 2100*time.Millisecond); n != 1 {
			t.Errorf("after a minute without a failure it is ejected for longer than at first: %d trials after 2 s", n)
		}
	})
}

func TestHalfOfTheWeightIsAlwaysInUse(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		cfg := configWith(WeightedRoundRobin{}, ejecting())
		b.resolveWith(cfg, server("a", weighing(6)), server("b"), server("c"), server("d"))
		b.ready(fourServers...)
		// The one with most of the weight fails: it stays in use.
		calls := b.load(900, 10*time.Second, always("a", refusing))
		if n := between(calls, "a", 5*time.Second, 10*time.Second); n < 2900 || n > 3100 {
			t.Errorf("a got %d of 4500 calls, want its 6 of 9", n)
		}
	})
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		// c fails always, d always, b every second time, and so badly that a would be
		// left alone: b is the least bad.
		calls := 0
		answers := func(id string, _ time.Duration) answer {
			switch id {
			case "a":
				return fast
			case "b":
				if calls++; calls%2 == 0 {
					return fast
				}
			}
			return refusing
		}
		got := b.load(1000, 20*time.Second, answers)
		if n := between(got, "a", 15*time.Second, 20*time.Second); n < 2400 || n > 2600 {
			t.Errorf("a got %d of 5000 calls", n)
		}
		if n := between(got, "b", 15*time.Second, 20*time.Second); n < 2400 || n > 2600 {
			t.Errorf("b, the least bad, got %d of 5000 calls", n)
		}
	})
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		all := func(string, time.Duration) answer { return refusing }
		b.load(1000, 10*time.Second, all) // load fails the test if there is nobody to pick
		b.wantSuspects(fourServers...)
	})
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), "a")
		if n := between(b.load(100, 10*time.Second, always("a", refusing)), "a", 0, time.Minute); n != 1000 {
			t.Errorf("the only instance got %d of 1000 calls", n)
		}
	})
}

// Connections that break soon speak against an instance, long ones do not.
func TestFlappingInstanceIsEjected(t *testing.T) {
	for lasts, want := range map[time.Duration][]string{time.Second: {"a"}, time.Minute: nil} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
			for range 6 {
				time.Sleep(lasts)
				b.sub("a").Set(connectivity.Idle, nil)
				synctest.Wait()
				b.ready("a")
			}
			b.wantSuspects(want...)
		})
	}
}

// Hints are honoured with instances out: what is avoided is worse than what is
// ejected, and who is pinned is picked though it is ejected.
func TestHintsAndEjection(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		b.up(configWith(p, ejecting()), fourServers...)
		b.load(1000, 8*time.Second, always("a", refusing)) // p2c picks it once a second
		b.wantSuspects("a")
		ctx, rec := b.recorded()
		for _, id := range []string{"b", "c", "d"} {
			rec.Avoid(id)
		}
		if got := b.picks(ctx, 1); got[0] != "a" {
			t.Errorf("picked %v, which is avoided, and not a, which is ejected", got)
		}
		ctx, rec = b.recorded()
		rec.Pin("a")
		if got := b.picks(ctx, 1); got[0] != "a" {
			t.Errorf("pinned a, picked %v", got)
		}
	})
}

// Who gets streams only cannot be tried with a unary call. The row of failures of before
// has ended all the same.
func TestEjectionEndsWithoutUnaryCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		b.load(1000, time.Second, always("a", refusing))
		b.wantSuspects("a")
		for n := 0; n < 1000 && len(b.those((*child).suspected)) > 0; n++ {
			b.make(streamMethod, 0, healthy)
			time.Sleep(10 * time.Millisecond)
		}
		b.wantSuspects()
		b.pass()
		for range fourServers {
			b.make(streamMethod, 0, always("a", refusing))
		}
		time.Sleep(time.Second)
		b.wantSuspects()
	})
}

// An ejection may last for ever.
func TestEjectionForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting(func(e *Ejection) { e.BaseTime, e.MaxTime = math.MaxInt64, math.MaxInt64 }), withoutStalls), fourServers...)
		calls := b.load(1000, 20*time.Second, always("a", refusing))
		if n := between(calls, "a", time.Second, 20*time.Second); n > 0 {
			t.Errorf("a was called %d times after it was ejected", n)
		}
	})
}

// What was learnt is kept where a configuration changes, and let go where it is
// switched off.
func TestSwitchingEjectionOff(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		b.load(1000, time.Second, always("a", refusing))
		b.resolveWith(configWith(Random{}, ejecting()), servers(fourServers...)...)
		b.wantSuspects("a")
		b.resolveWith(configWith(Random{}), servers(fourServers...)...)
		b.wantSuspects()
	})
}

// A connection that is lost stays lost, whatever else its loss means.
func TestLossThatEjectsLeavesTheConnectionLost(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolveWith(configWith(RoundRobin{}, ejecting(func(e *Ejection) { e.ConsecutiveFailures = 1 })), servers("a", "b")...)
		b.ready("a", "b")
		b.sub("a").Set(connectivity.Idle, nil) // within 5 s of READY
		if got := b.children["a"][0].conn.rank.Load(); got != rankLost {
			t.Errorf("the lost connection has rank %d, want %d", got, rankLost)
		}
	})
}

func TestDrainingInstanceIsNotTried(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		cfg := configWith(RoundRobin{}, ejecting(func(e *Ejection) { e.ConsecutiveFailures = 5 }))
		b.resolveWith(cfg, servers("a", "b", "c")...)
		b.ready("a", "b", "c")
		for range 15 {
			id, done, _ := b.call(t.Context())
			if id == "a" {
				done(unavailable)
			} else {
				done(answeredOK)
			}
		}
		b.resolveWith(cfg, server("a", draining), server("b"), server("c"))
		for range 600 {
			time.Sleep(10 * time.Millisecond)
			ctx, rec := b.recorded()
			rec.SetUnary()
			id, done, _ := b.call(ctx)
			if id == "a" {
				t.Fatal("a drains and got a new call")
			}
			done(answeredOK)
		}
	})
}

// Failures from before somebody wanted to know of them do not count.
func TestSwitchingEjectionOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		b.load(1000, time.Second, always("a", refusing))
		time.Sleep(refusing.after) // all is answered
		b.resolveWith(configWith(RoundRobin{}, ejecting()), servers(fourServers...)...)
		b.load(1000, 16*time.Millisecond, always("a", refusing))
		b.wantSuspects()
		b.load(1000, 16*time.Millisecond, always("a", refusing))
		b.wantSuspects("a")
	})
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		b.load(1000, time.Second, always("a", refusing))
		b.load(100, time.Second, healthy)
		b.resolveWith(configWith(RoundRobin{}, ejecting(func(e *Ejection) { e.ConsecutiveFailures = 100 })), servers(fourServers...)...)
		for range 10 {
			b.load(100, time.Second, healthy)
			b.wantSuspects()
		}
	})
}

// A success ends a row of failures, whatever they were failures of.
func TestSuccessEndsARow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		for range 10 { // connections that are lost at once
			b.sub("a").Fail(errUnavailable)
			b.ready("a")
			b.load(100, 100*time.Millisecond, healthy)
			b.wantSuspects()
		}
	})
	inBubble(t, func(t *testing.T, b *bed) {
		cfg := configWith(RoundRobin{}, ejecting())
		b.up(cfg, fourServers...)
		for i := range 10 { // and are not used again
			b.resolveWith(cfg, append(servers("b", "c", "d"), server("a", at(fmt.Sprintf("a%d:1", i))))...)
			b.cc.Newest().Ready()
			b.pass()
			b.load(100, 100*time.Millisecond, healthy)
			b.wantSuspects()
		}
	})
}

// Of an instance that has a new connection, calls of the old one may end for a while.
func TestSuccessEndsARowOfAnotherConnection(t *testing.T) {
	for _, fails := range []string{"the old one", "the new one"} {
		inBubble(t, func(t *testing.T, b *bed) {
			cfg := configWith(RoundRobin{}, ejecting())
			b.resolveWith(cfg, servers("a", "b")...)
			b.ready("a", "b")
			var late []func(gbalancer.DoneInfo)
			for len(late) < 10 {
				id, done, err := b.call(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if id == "a" {
					late = append(late, done)
				} else {
					done(answeredOK)
				}
			}
			time.Sleep(10 * time.Second)
			b.resolveWith(cfg, server("a", at("a2:1")), server("b"))
			synctest.Wait()
			for _, sc := range b.cc.SubConns() {
				if sc.Addr == "a2:1" {
					sc.Ready()
				}
			}
			b.pass()
			for _, done := range late {
				if again := b.find("a", "").conn.dones[uncounted][1]; fails == "the old one" {
					done(unavailable)
					again(answeredOK)
				} else {
					again(unavailable)
					done(answeredOK)
				}
			}
			if b.wantSuspects(); t.Failed() {
				t.Logf("calls of %s fail", fails)
			}
		})
	}
}
