package balancer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

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

// Few answers are enough to find who fails.
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

// window is what is known of so many calls that each fail with probability p.
func window(rng *rand.Rand, calls int, p float64) record {
	r := record{calls: float64(calls)}
	for range calls {
		if rng.Float64() < p {
			r.failed++
		}
	}
	return r
}

// What chance explains of the number of failures is as much as it makes of it.
func TestDeviation(t *testing.T) {
	const runs, calls = 2000, 2000
	rng := rand.New(rand.NewPCG(1, 2))
	for _, p := range []float64{0.02, 0.3, 0.7} {
		var sum, squares, predicted float64
		for range runs {
			r := window(rng, calls, p)
			surplus := r.surplus(p)
			sum, squares, predicted = sum+surplus, squares+surplus*surplus, predicted+r.deviation(p)/runs
		}
		if got := math.Sqrt(squares/runs - (sum/runs)*(sum/runs)); math.Abs(got-predicted) > got/10 {
			t.Errorf("share %v: deviates by %.2f, and %.2f is predicted", p, got, predicted)
		}
	}
}

// Of instances that fail alike none is ejected, whoever has how many calls, and one that
// fails much more is found.
func TestChanceEjectsNobody(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	e := Ejection{}.orDefault()
	for _, calls := range [][]int{
		slices.Repeat([]int{20}, 20), slices.Repeat([]int{25}, 20), {80, 80}, {270, 270}, {1300, 1300}, slices.Repeat([]int{80}, 10), slices.Repeat([]int{270}, 10),
		{270, 26}, {26, 270}, {1000, 100}, {100, 1000}, {150, 1500}, {300, 30, 30, 30, 30}, {2000, 200, 200, 200, 200}, {100, 20, 1000, 1000},
	} {
		for _, p := range []float64{0.01, 0.02, 0.03, 0.05, 0.1, 0.3, 0.5, 0.9} {
			wrong, found, runs := 0, 0, 4000/len(calls)
			for range runs {
				var windows []record
				var all record
				for _, n := range calls {
					w := window(rng, n, p)
					windows, all = append(windows, w), all.plus(w)
				}
				for _, w := range windows {
					if e.outlies(w, all.minus(w)) {
						wrong++
					}
				}
				if e.outlies(window(rng, calls[0], p+0.25), all.minus(windows[0])) {
					found++
				}
			}
			if wrong > 4000/200 {
				t.Errorf("of %v calls %v fail: %d of %d are ejected", calls, p, wrong, runs*len(calls))
			}
			if calls[0] >= 100 && calls[1] >= 100 && p+0.25 <= 1 && found < runs*4/5 {
				t.Errorf("of %v calls %v fail, and of the first 0.25 more: ejected in %d of %d", calls, p, found, runs)
			}
		}
	}
}

// Who is compared, and with whom.
func TestOutlies(t *testing.T) {
	e := Ejection{}.orDefault()
	for _, tt := range []struct {
		one, others record
		want        bool
	}{
		{record{20, 20}, record{20, 0}, true},
		{record{19, 19}, record{20, 0}, false},
		{record{20, 20}, record{19, 0}, false},
		{record{1e5, 66_000}, record{1e5, 55_000}, true},
		{record{1e5, 64_000}, record{1e5, 55_000}, false}, // within the tolerance
	} {
		if got := e.outlies(tt.one, tt.others); got != tt.want {
			t.Errorf("%+v among %+v outlies: %t, want %t", tt.one, tt.others, got, tt.want)
		}
	}
}

// Next to one that fails always, another one that fails less is found at the same time.
func TestWorstDoesNotHideOthers(t *testing.T) {
	calls := 0
	wantEjected(t, ejecting(bySharesOnly), 400, 6*time.Second, func(id string, _ time.Duration) answer {
		switch {
		case id == "a":
			return refusing
		case id == "b":
			if calls++; calls%10 < 3 {
				return refusing
			}
		}
		return fast
	}, "a", "b")
}
