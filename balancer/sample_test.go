package balancer

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
)

// busy makes the four servers so busy that only some of their answers are counted.
func (b *bed) busy() {
	b.t.Helper()
	b.load(400, 6*time.Second, healthy)
	b.wantBusy(fourServers...)
}

func (b *bed) wantBusy(want ...string) {
	b.t.Helper()
	if got := b.those(func(c *child) bool { return c.conn.left() == 0 }); !slices.Equal(got, want) {
		b.t.Fatalf("busy are %v, want %v", got, want)
	}
}

// However calls come, what is estimated is near the truth: a third of failures is
// found, and a fourteenth within the tolerance is not.
func TestEstimatesOfBursts(t *testing.T) {
	for _, every := range []time.Duration{20, 40, 50, 79, 85, 160} {
		for failsOneIn, want := range map[int][]string{3: {"a"}, 14: nil} {
			inBubble(t, func(t *testing.T, b *bed) {
				b.up(configWith(RoundRobin{}, ejecting(bySharesOnly)), fourServers...)
				calls, answers := 0, 0.0
				b.busy()
				before := b.find("b", "").counts()
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
				if estimate := b.find("b", "").counts().since(before).calls; math.Abs(estimate-answers) > 5*math.Sqrt(sampledOf*answers) {
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
			b.busy()
			before := b.find("b", "").counts()
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
			ended := b.find("b", "").counts()
			if counted := float64(ended.good - before.good + ended.samples - before.samples); counted > answers/6 {
				t.Errorf("%.0f of %.0f answers were counted", counted, answers)
			}
			if estimate := ended.since(before).calls; math.Abs(estimate-answers) > 5*math.Sqrt(sampledOf*answers) {
				t.Errorf("%.0f answers are taken for %.0f", answers, estimate)
			}
		})
	}
}

// Of a new instance that is busy few answers are counted one by one, and not all until
// it is first compared.
func TestBusyAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		b.load(20_000, time.Second, healthy)
		ended, answers := b.find("b", "").counts(), 5000.0
		if ended.good != oneByOne {
			t.Errorf("%d answers were counted one by one, want %d", ended.good, oneByOne)
		}
		if estimate := ended.since(counts{}).calls; math.Abs(estimate-answers) > 5*math.Sqrt(sampledOf*answers) {
			t.Errorf("%.0f answers are taken for %.0f", answers, estimate)
		}
	})
}

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

// Whoever picks and whatever else is to be known of a call, what is counted of it is
// near the truth, and a small part.
func TestAnswersAreSampledByEveryPicker(t *testing.T) {
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
				b.up(configWith(p, ejecting(func(e *Ejection) { e.Interval = Duration(time.Second) })), fourServers...)
				answers := 0.0
				for i := range 30_000 { // in three seconds
					result, err := b.picker.Pick(gbalancer.PickInfo{Ctx: with(b), FullMethodName: unaryMethod})
					if err != nil {
						t.Fatal(err)
					}
					if result.Done(answeredOK); b.idOf(result) == "b" {
						answers++
					}
					if i%100 == 0 {
						time.Sleep(10 * time.Millisecond)
					}
				}
				ended := b.find("b", "").counts()
				if counted := float64(ended.good + ended.samples); counted > answers/5 {
					t.Errorf("%v, %v: %.0f of %.0f answers were counted", p.name(), call, counted, answers)
				}
				if estimate := ended.since(counts{}).calls; math.Abs(estimate-answers) > 5*math.Sqrt(sampledOf*answers) {
					t.Errorf("%v, %v: %.0f answers are taken for %.0f", p.name(), call, answers, estimate)
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
				if c, dice := r.next(); samplingOf(sampleAnswers, dice) == sampled {
					samples[c]++
				}
			}
			each := float64(picks / max(1, n/100))
			for c, got := range samples {
				if off := math.Abs(float64(got*sampledOf)-each) / math.Sqrt(sampledOf*each); off > 7 {
					t.Errorf("%d in a turn, crowded %v: %s was sampled %d times of %.0f, off by %.1f deviations", n, crowded, c.target.ID, got, each, off)
				}
			}
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
			{ejecting(), counts{good: 10}},
		} {
			b.resolveWith(configWith(RoundRobin{}, tt.change), servers(fourServers...)...)
			b.load(40, time.Second, healthy)
			if ended := b.find("b", "").counts(); ended != tt.want {
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
		if ended := b.find("a", "").counts(); ended != (counts{}) {
			t.Errorf("counted %+v", ended)
		}
		b.wantSuspects()
	})
}

// So few answers that an estimate of them were rough are counted one by one, however
// they come, and also when they have become few.
func TestFewAnswersAreNotSampled(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting()), fourServers...)
		b.busy()
		time.Sleep(7 * time.Second)
		b.load(4, time.Second, healthy) // and are compared
		before := b.find("b", "").counts()
		for range 20 {
			b.load(4000, 50*time.Millisecond, healthy)
			time.Sleep(7 * time.Second)
		}
		if now := b.find("b", "").counts(); now != (counts{good: before.good + 20*50, samples: before.samples}) {
			t.Errorf("of 50 answers in an interval, 20 times, after %+v: %+v", before, now)
		}
	})
}
