package balancer

import (
	"context"
	"math"
	"math/rand/v2"
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

// From the first 64 successes on the number of calls is an estimate, also if none of the
// others is in the sample.
func TestFromWhenOnCallsAreEstimated(t *testing.T) {
	for _, tt := range []struct {
		counted counts
		want    float64
	}{
		{counts{good: oneByOne - 1, failed: 100}, 0},
		{counts{late: 100}, 0},
		{counts{good: oneByOne}, unseen},
		{counts{samples: 1}, sampledOf + unseen},
		{counts{good: oneByOne, samples: 3}, 3*sampledOf + unseen},
	} {
		if got := tt.counted.since(counts{}).estimated; got != tt.want {
			t.Errorf("of %+v %v are an estimate, want %v", tt.counted, got, tt.want)
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

// Nobody is ejected because its good answers come late, when calls begin to fail as
// often as everybody's and fail at once.
func TestSlowIsNotFailing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting(bySharesOnly, func(e *Ejection) { e.Interval = Duration(time.Second) }), withoutStalls), fourServers...)
		calls := map[string]int{}
		answers := func(failsOneIn int) behaviour {
			return func(id string, _ time.Duration) answer {
				calls[id]++
				switch {
				case calls[id]%failsOneIn == 0:
					return refusing
				case id == "a":
					return answer{after: 500 * time.Millisecond}
				}
				return fast
			}
		}
		b.load(800, 20*time.Second, answers(math.MaxInt))
		for range 20 {
			b.load(800, time.Second, answers(5))
			b.wantSuspects()
		}
	})
}

// Where answers are counted one by one, few are enough to find who fails.
func TestFewAnswersAreEnough(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting(bySharesOnly)), "a", "b")
		calls := 0
		b.load(13, 6*time.Second, func(id string, _ time.Duration) answer {
			if id == "a" {
				if calls++; calls%16 < 5 { // 10 of 32
					return refusing
				}
			}
			return fast
		})
		b.wantSuspects("a")
	})
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

// Who is back is not ejected once more for what it was ejected for.
func TestWhatAnInstanceWasEjectedForCountsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting(), withoutStalls), fourServers...)
		b.load(40, 100*time.Millisecond, healthy)
		b.load(40, time.Second, until(600*time.Millisecond, always("a", refusing), healthy))
		b.wantSuspects("a")
		b.load(40, 3*time.Second, healthy)
		b.wantSuspects()
		for range 10 {
			b.load(40, time.Second, healthy)
			b.wantSuspects()
		}
	})
}

// What an instance has failed is not forgotten because it was silent since.
func TestStallsDoNotHideFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting(bySharesOnly)), fourServers...)
		calls := 0
		b.load(160, 500*time.Millisecond, func(id string, _ time.Duration) answer {
			if id == "a" {
				if calls++; calls%2 == 0 {
					return refusing
				}
			}
			return fast
		})
		b.load(400, 300*time.Millisecond, always("a", answer{}))
		b.wantSuspects("a")
		b.load(40, 2*time.Second, healthy)
		b.wantSuspects()
		b.load(20, 2500*time.Millisecond, healthy) // and are compared
		b.wantSuspects("a")
	})
}

// Whose failures come in bursts is found, however long it is from one to the next.
func TestBurstsOfFailures(t *testing.T) {
	for _, every := range []int{6, 12, 60} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.up(configWith(RoundRobin{}, ejecting(bySharesOnly), withoutStalls), fourServers...)
			calls, ejected := 0, false
			for range 4 {
				for range 400 { // at one moment
					b.make(unaryMethod, 0, func(id string, _ time.Duration) answer {
						if id == "a" {
							if calls++; calls%2 == 0 {
								return refusing
							}
						}
						return fast
					})
				}
				for range every {
					b.load(40, time.Second, healthy)
					ejected = ejected || len(b.those((*child).suspected)) > 0
				}
			}
			if !ejected {
				t.Errorf("a burst each %d s: a was never ejected", every)
			}
		})
	}
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

// window is what is known of so many calls that each fail with probability p, where so
// many answers are counted one by one.
func window(rng *rand.Rand, calls int, p float64, each uint32) record {
	var now counts
	for range calls {
		switch {
		case rng.Float64() < p:
			now.failed++
		case now.good < each:
			now.good++
		case rng.IntN(sampledOf) == 0:
			now.samples++
		}
	}
	return now.since(counts{})
}

// What chance explains of the number of failures is as much as it makes of it.
func TestDeviation(t *testing.T) {
	const runs, calls = 2000, 2000
	rng := rand.New(rand.NewPCG(1, 2))
	for _, p := range []float64{0.02, 0.3, 0.7} {
		for _, each := range []uint32{0, calls} {
			var sum, squares, predicted float64
			for range runs {
				r := window(rng, calls, p, each)
				surplus := r.surplus(p)
				sum, squares, predicted = sum+surplus, squares+surplus*surplus, predicted+r.deviation(p)/runs
			}
			if got := math.Sqrt(squares/runs - (sum/runs)*(sum/runs)); math.Abs(got-predicted) > got/10 {
				t.Errorf("share %v, %d counted one by one: deviates by %.2f, and %.2f is predicted", p, each, got, predicted)
			}
		}
	}
}

// Of instances that fail alike none is ejected, whoever has how many calls, and one that
// fails much more is found nearly as often as if each of its calls were counted.
func TestChanceEjectsNobody(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	e := Ejection{}.orDefault()
	for _, calls := range [][]int{
		{80, 80}, {270, 270}, {1300, 1300}, slices.Repeat([]int{80}, 10), slices.Repeat([]int{270}, 10),
		{270, 26}, {26, 270}, {1000, 100}, {100, 1000}, {150, 1500}, {300, 30, 30, 30, 30}, {2000, 200, 200, 200, 200}, {100, 20, 1000, 1000},
	} {
		for _, p := range []float64{0.1, 0.3, 0.5, 0.9} {
			runs := 4000 / len(calls)
			// in counts those that are ejected, and how often the first would be if it failed more.
			in := func(each uint32) (wrong, found int) {
				for range runs {
					var windows []record
					var all record
					for _, n := range calls {
						w := window(rng, n, p, each)
						windows, all = append(windows, w), all.plus(w)
					}
					for _, w := range windows {
						if e.outlies(w, all.minus(w)) {
							wrong++
						}
					}
					if e.outlies(window(rng, calls[0], p+0.25, each), all.minus(windows[0])) {
						found++
					}
				}
				return wrong, found
			}
			wrong, found := in(oneByOne)
			if wrong > 4000/200 {
				t.Errorf("of %v calls %v fail: %d of %d are ejected", calls, p, wrong, runs*len(calls))
			}
			if _, most := in(math.MaxUint32); found < most/2 {
				t.Errorf("of %v calls %v fail, and of the first 0.25 more: ejected in %d of %d, and in %d if each is counted", calls, p, found, runs, most)
			}
		}
	}
}
