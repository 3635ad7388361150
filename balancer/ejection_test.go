package balancer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
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
	noConsecutive := func(e *Ejection) { e.ConsecutiveFailures = 1 << 30 }
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

	// Half of the calls fail, or one in six; one in twelve is within the tolerance.
	wantEjected(t, ejecting(), 1000, 6*second, every(2, "b", refusing), "b")
	wantEjected(t, ejecting(), 1000, 6*second, every(6, "b", refusing), "b")
	wantEjected(t, ejecting(), 1000, 6*second, every(12, "b", refusing))
	wantEjected(t, ejecting(func(e *Ejection) { e.Tolerance = 0.05 }), 1000, 6*second, every(12, "b", refusing), "b")

	// Chance: one failure of 25 calls says nothing, where 50 of 1,250 do.
	strict := func(e *Ejection) { e.Tolerance = 0.01 }
	wantEjected(t, ejecting(strict), 20, 6*second, every(25, "b", refusing))
	wantEjected(t, ejecting(strict), 1000, 6*second, every(25, "b", refusing), "b")

	// Ten calls are too few to compare, if all of them fail.
	wantEjected(t, ejecting(noConsecutive), 8, 6*second, always("b", refusing))
	wantEjected(t, ejecting(noConsecutive), 80, 6*second, always("b", refusing), "b")

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
	wantEjected(t, ejecting(), 1000, 6*second, half())
}

// A caller's own deadline and cancel never count; a policy's time limit does.
func TestWhoseTimeLimitCounts(t *testing.T) {
	for cause, want := range map[error][]string{nil: nil, pick.ErrTimeout: {"a"}} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.up(configWith(RoundRobin{}, ejecting(), func(s *settings) { s.stall.Off = true }), fourServers...)
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
		b.load(1000, time.Second, always("a", refusing))
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

// Who gets streams only cannot be tried with a unary call.
func TestEjectionEndsWithoutUnaryCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		b.load(1000, time.Second, always("a", refusing))
		b.wantSuspects("a")
		for range 1000 {
			b.make(streamMethod, 0, healthy)
			time.Sleep(10 * time.Millisecond)
		}
		b.wantSuspects()
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

// nextTrial makes unary calls until one goes to a, which is left in hand.
func (b *bed) nextTrial(within time.Duration) (done func(gbalancer.DoneInfo)) {
	b.t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		result, err := b.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: b.t.Context(), FullMethodName: unaryMethod})
		if err != nil || time.Since(began) > within {
			b.t.Fatalf("no trial in %v, %v", within, err)
		}
		if b.idOf(result) == "a" {
			return result.Done
		}
		result.Done(answeredOK)
	}
}

// onTrial runs test with a first trial of a under way.
func onTrial(t *testing.T, trials uint32, test func(b *bed, first func(gbalancer.DoneInfo))) {
	t.Helper()
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting(func(e *Ejection) { e.Trials = trials }), func(s *settings) { s.stall.Off = true }), fourServers...)
		b.load(1000, time.Second, always("a", refusing))
		b.wantSuspects("a")
		test(b, b.nextTrial(time.Minute))
	})
}

// A trial that takes minutes does not keep an instance out for so long: another one
// takes its place, and what becomes of it says nothing any more.
func TestTrialThatDoesNotEnd(t *testing.T) {
	onTrial(t, 3, func(b *bed, first func(gbalancer.DoneInfo)) {
		b.load(100, 9*time.Second, healthy)
		b.wantSuspects("a")
		b.load(100, 2*time.Second, healthy)
		b.wantSuspects()
	})
	onTrial(t, 1, func(b *bed, first func(gbalancer.DoneInfo)) {
		b.load(100, 9900*time.Millisecond, healthy)
		b.nextTrial(time.Second)(unavailable)
		first(answeredOK)
		b.wantSuspects("a")
	})
	onTrial(t, 3, func(b *bed, first func(gbalancer.DoneInfo)) { // one at a time
		b.load(100, 9900*time.Millisecond, healthy)
		b.nextTrial(time.Second)
		first(answeredOK)
		if calls := b.load(100, 9*time.Second, healthy); between(calls, "a", 0, time.Minute) > 0 {
			t.Error("a got a call beside its trial")
		}
	})
	onTrial(t, 3, func(b *bed, first func(gbalancer.DoneInfo)) { // and only streams follow
		for range 4000 {
			b.make(streamMethod, 0, healthy)
			if time.Sleep(10 * time.Millisecond); b.now() > 15*time.Second {
				first(answeredOK)
				first = func(gbalancer.DoneInfo) {}
			}
		}
		b.wantSuspects()
	})
}

// Where calls are rare, the time between the offer and the call is not the trial's.
func TestTrialsOfRareCalls(t *testing.T) {
	for _, every := range []time.Duration{5 * time.Second, 15 * time.Second, time.Minute} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.up(configWith(RoundRobin{}, ejecting(), func(s *settings) { s.stall.Off = true }), fourServers...)
			b.load(1000, time.Second, always("a", refusing))
			for range 6 {
				var dones []func(gbalancer.DoneInfo)
				for range 8 {
					result, err := b.picker.Pick(gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: unaryMethod})
					if err != nil {
						t.Fatal(err)
					}
					dones = append(dones, result.Done)
				}
				time.Sleep(50 * time.Millisecond)
				for _, done := range dones {
					done(answeredOK)
				}
				time.Sleep(every)
			}
			if b.wantSuspects(); t.Failed() {
				t.Logf("with calls every %v", every)
			}
		})
	}
	inBubble(t, func(t *testing.T, b *bed) { // and one trial at a time
		b.up(configWith(RoundRobin{}, ejecting(), func(s *settings) { s.stall.Off = true }), fourServers...)
		b.load(1000, time.Second, always("a", refusing))
		b.mu.Lock()
		c := b.find("a", "")
		c.health.trial = &trial{conn: c.conn, offered: b.now() - 15*time.Second}
		b.picker.trial.Store(c.health.trial)
		b.mu.Unlock()
		b.nextTrial(time.Second)
		if calls := b.load(100, 9*time.Second, healthy); between(calls, "a", 0, time.Minute) > 0 {
			t.Error("a got a call beside its trial")
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
				if again := b.find("a", "").conn.ordinary.Done; fails == "the old one" {
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

// However calls come, what is estimated is near the truth: a third of failures is
// found, and a fourteenth within the tolerance is not.
func TestEstimatesOfBursts(t *testing.T) {
	for _, every := range []time.Duration{20, 40, 50, 79, 85, 160} {
		for failsOneIn, want := range map[int][]string{3: {"a"}, 14: nil} {
			inBubble(t, func(t *testing.T, b *bed) {
				b.up(configWith(RoundRobin{}, ejecting(func(e *Ejection) { e.ConsecutiveFailures = 1 << 30 })), fourServers...)
				calls, answers := 0, 0.0
				for range 5500 / every {
					for range 400 {
						b.make(unaryMethod, 0, func(id string, _ time.Duration) answer {
							switch {
							case id == "b":
								answers++
							case id == "a":
								if calls++; calls%failsOneIn == 0 {
									return refusing
								}
							}
							return fast
						})
					}
					time.Sleep(every * time.Millisecond)
				}
				b.wantSuspects(want...)
				if estimate := b.find("b", "").tally.counts().since(counts{}).calls; math.Abs(estimate-answers) > 5*math.Sqrt(sampled*answers) {
					t.Errorf("bursts every %d ms: %.0f answers are taken for %.0f", every, answers, estimate)
				}
			})
		}
	}
}

// Of a busy instance only some answers are counted and stand for all, and each ends
// a row of failures.
func TestBusyInstances(t *testing.T) {
	for n, want := range map[int][]string{2: {"a"}, 5: {"a"}, 20: nil} {
		inBubble(t, func(t *testing.T, b *bed) {
			calls, answers := 0, 0.0
			b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
			b.load(20_000, 5100*time.Millisecond, func(id string, _ time.Duration) answer {
				calls++
				switch {
				case id == "a" && calls/4%n == 0:
					return refusing
				case id == "b":
					answers++
				}
				return fast
			})
			b.wantSuspects(want...)
			c := b.find("b", "")
			ended := c.tally.counts()
			if counted := float64(ended.good + ended.samples); counted > answers/5 {
				t.Errorf("%.0f of %.0f answers were counted", counted, answers)
			}
			if estimate := ended.since(counts{}).calls; math.Abs(estimate-answers) > 5*math.Sqrt(sampled*answers) {
				t.Errorf("%.0f answers are taken for %.0f", answers, estimate)
			}
		})
	}
}

// Whoever picks and whatever else is to be known of a call, what is counted of it is
// near the truth, and a small part.
func TestAnswersAreSampledByEveryPicker(t *testing.T) {
	for _, p := range []Picker{Random{}, RoundRobin{}, WeightedRoundRobin{}, P2C{}, LeastRequest{ChoiceCount: 2}} {
		for _, withRecord := range []bool{false, true} {
			inBubble(t, func(t *testing.T, b *bed) {
				b.up(configWith(p, ejecting()), fourServers...)
				answers := 0.0
				for i := range 40_000 {
					ctx := t.Context()
					if withRecord {
						ctx, _ = b.recorded()
					}
					result, err := b.picker.Pick(gbalancer.PickInfo{Ctx: ctx, FullMethodName: unaryMethod})
					if err != nil {
						t.Fatal(err)
					}
					if result.Done(answeredOK); b.idOf(result) == "b" {
						answers++
					}
					if i%400 == 0 {
						time.Sleep(10 * time.Millisecond)
					}
				}
				ended := b.find("b", "").tally.counts()
				if counted := float64(ended.good + ended.samples); counted > answers/5 {
					t.Errorf("%v, record %v: %.0f of %.0f answers were counted", p.name(), withRecord, counted, answers)
				}
				if estimate := ended.since(counts{}).calls; math.Abs(estimate-answers) > 5*math.Sqrt(sampled*answers) {
					t.Errorf("%v, record %v: %.0f answers are taken for %.0f", p.name(), withRecord, answers, estimate)
				}
			})
		}
	}
}

// Whatever the length of a turn, each of its places is sampled as often as others.
func TestSamplesOfEveryTurn(t *testing.T) {
	const picks = 2000
	for _, n := range []int{1, 2, 3, 4, 7, 16, 97, 500, 1532, 1844, 2102, 2186, 4096} {
		for _, crowded := range []bool{false, true} {
			var at position
			at.start()
			r := newRotation(tableOf(n), &at)
			samples := map[*conn]int{}
			for range n * picks / max(1, n/100) {
				at.crowded.Store(crowded)
				if c, dice := r.next(); isSample(sampleAnswers, dice) {
					samples[c]++
				}
			}
			each := float64(picks / max(1, n/100))
			for c, got := range samples {
				if off := math.Abs(float64(got*sampled)-each) / math.Sqrt(sampled*each); off > 7 {
					t.Errorf("%d in a turn, crowded %v: %s was sampled %d times of %.0f, off by %.1f deviations", n, crowded, c.target.ID, got, each, off)
				}
			}
		}
	}
}

// So few answers that an estimate of them were rough are counted one by one.
func TestFewAnswersAreNotSampled(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		for range 20 {
			b.load(30_000, 30*time.Millisecond, healthy)
			time.Sleep(7 * time.Second)
		}
		if ended := b.find("b", "").tally.counts(); ended.samples != 0 || ended.good != 20*225 {
			t.Errorf("%+v", ended)
		}
	})
}

// What chance explains of the share of failures is as much as it makes of it.
func TestDeviation(t *testing.T) {
	const runs, calls = 2000, 2000
	rng := rand.New(rand.NewPCG(1, 2))
	for _, p := range []float64{0.02, 0.3, 0.7} {
		for _, estimated := range []bool{false, true} {
			var sum, squares, predicted float64
			for range runs {
				var now counts
				for range calls {
					switch {
					case rng.Float64() < p:
						now.failed++
					case !estimated:
						now.good++
					case rng.IntN(sampled) == 0:
						now.samples++
					}
				}
				r := now.since(counts{})
				sum, squares, predicted = sum+r.share(), squares+r.share()*r.share(), predicted+r.deviation(p)/runs
			}
			if got := math.Sqrt(squares/runs - (sum/runs)*(sum/runs)); math.Abs(got-predicted) > got/10 {
				t.Errorf("share %v, estimated %v: deviates by %.4f, and %.4f is predicted", p, estimated, got, predicted)
			}
		}
	}
}
