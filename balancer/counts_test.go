package balancer

import (
	"context"
	"testing"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
)

// While a configuration changes, what picks have to do is for a moment what it was
// before and what it is then.
func TestDonesWhileTheConfigurationChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		b.resolveWith(configWith(P2C{}), servers(fourServers...)...)
		for kind, dones := range b.find("b", "").conn.dones {
			for answer, done := range dones {
				if done == nil {
					t.Errorf("no Done for kind %d and answer %d", kind, answer)
				}
			}
		}
	})
}

// A call that ends late, when its instance is gone, changes nothing for picks that are
// about to use it.
func TestLateFailureOfWhoIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), "a")
		gone := b.find("a", "").conn
		result, err := b.picker.Pick(gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: unaryMethod})
		if err != nil {
			t.Fatal(err)
		}
		b.resolveWith(configWith(P2C{}), servers("b")...)
		b.resolveWith(configWith(P2C{}, ejecting()), servers("b")...)
		result.Done(unavailable)
		if b.picker.use(gone, gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: unaryMethod}, nil, 1).Done == nil {
			t.Error("no Done")
		}
	})
}

// Whoever picks and whatever else is to be known of a call, its answer is counted.
func TestAnswersAreCountedByEveryPicker(t *testing.T) {
	for _, p := range []Picker{Random{}, RoundRobin{}, WeightedRoundRobin{}, P2C{}, LeastRequest{ChoiceCount: 2}} {
		for call, with := range map[string]func(*bed) context.Context{
			"no record":   func(b *bed) context.Context { return b.t.Context() },
			"with record": func(b *bed) context.Context { ctx, _ := b.recorded(); return ctx },
			"pinned": func(b *bed) context.Context {
				ctx, rec := b.recorded()
				rec.Pin("b")
				return ctx
			},
		} {
			inBubble(t, func(t *testing.T, b *bed) {
				b.up(configWith(p, ejecting()), fourServers...)
				want := counts{}
				for i := range 3000 { // in three seconds
					result := b.startWith(with(b), unaryMethod)
					info := answeredOK
					if i%50 < 4 {
						info = unavailable
					}
					switch result.Done(info); {
					case b.idOf(result) != "b":
					case info.Err != nil:
						want.failed++
					default:
						want.answered++
					}
					if i%10 == 0 {
						time.Sleep(10 * time.Millisecond)
					}
				}
				if ended := b.counts("b"); ended != want {
					t.Errorf("%v, %v: counted %+v of %+v", p.name(), call, ended, want)
				}
			})
		}
	}
}

// Answers are counted from the moment on at which ejection is switched on.
func TestCountingBeginsWithEjection(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		for _, tt := range []struct {
			change func(*settings)
			want   counts
		}{
			{func(*settings) {}, counts{}},
			{ejecting(), counts{answered: 10}},
		} {
			b.resolveWith(configWith(RoundRobin{}, tt.change), servers(fourServers...)...)
			b.load(40, time.Second, healthy)
			if ended := b.counts("b"); ended != tt.want {
				t.Errorf("counted %+v, want %+v", ended, tt.want)
			}
		}
	})
}

// Of calls that were made before ejection was switched on neither answers nor failures
// count: some have ended before and would make the rest look better or worse than all.
func TestCallsBeforeEjectionDoNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, withoutStalls), "a", "b")
		var dones []func(gbalancer.DoneInfo)
		for range 400 {
			dones = append(dones, b.start(unaryMethod).Done)
		}
		b.resolveWith(configWith(RoundRobin{}, ejecting(), withoutStalls), servers("a", "b")...)
		for i, done := range dones {
			if i < 200 {
				done(answeredOK)
			} else {
				done(unavailable)
			}
		}
		if ended := b.counts("a"); ended != (counts{}) {
			t.Errorf("counted %+v", ended)
		}
		b.wantSuspects()
	})
}

// What failed before ejection was switched off does not count when it is on again.
func TestFailuresBeforeEjectionWasOffDoNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		on, off := configWith(RoundRobin{}, ejecting(bySharesOnly)), configWith(RoundRobin{})
		b.up(on, fourServers...)
		b.load(400, time.Second, always("a", refusing))
		b.resolveWith(off, servers(fourServers...)...)
		b.load(400, time.Second, always("a", refusing))
		b.resolveWith(on, servers(fourServers...)...)
		for range 8 {
			b.load(400, time.Second, healthy)
			b.wantSuspects()
		}
	})
}

// However long it is until they are compared, and however many they are, answers that are
// counted with the calls in hand are counted.
func TestAnswersOfALongInterval(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(P2C{}, ejecting(func(e *Ejection) { e.Interval = Duration(time.Hour) }), withoutStalls), "a")
		const times, each = 10, maxAnswers / 2
		before := b.counts("a")
		for range times {
			b.find("a", "").tally.calls.Add(each * oneAnswer)
			b.load(10, time.Second, healthy)
		}
		if got := b.counts("a").since(before).calls; got != times*(each+10) {
			t.Errorf("counted %.0f of %d", got, times*(each+10))
		}
	})
}

// The latency of calls with a record is measured, and they try who is to be tried.
func TestRecordedCallsTellAsMuch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(P2C{}, ejecting(), withoutStalls), "a", "b")
		call := func(info gbalancer.DoneInfo) {
			ctx, _ := b.recorded()
			result := b.startWith(ctx, unaryMethod)
			time.Sleep(20 * time.Millisecond)
			result.Done(info)
		}
		for range 50 {
			call(answeredOK)
		}
		for _, id := range []string{"a", "b"} {
			if peak := time.Duration(b.find(id, "").tally.peak.Load()); peak < 10*time.Millisecond {
				t.Errorf("calls of 20ms to %s are taken for some of %v", id, peak)
			}
		}
		b.mu.Lock()
		b.eject(b.engine.find("a", ""), b.now(), 1, "for the test")
		b.mu.Unlock()
		b.pass()
		b.wantSuspects("a")
		failed := b.counts("a")
		for range 200 {
			call(answeredOK)
		}
		b.wantSuspects()
		if b.counts("a").failed != failed.failed {
			t.Error("a good trial counts as a failure")
		}
	})
}
