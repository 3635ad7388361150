package attempt_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
)

// window is the budget's.
const window = 3 * time.Second

// taken is how many of n attempts b allows.
func taken(b *attempt.Budget, n int) (ok int) {
	for range n {
		if b.Take() {
			ok++
		}
	}
	return ok
}

func calls(b *attempt.Budget, n int) {
	for range n {
		b.Call()
	}
}

func TestBudget(t *testing.T) {
	for name, tt := range map[string]struct {
		ratio, floor float64
		use          func(*attempt.Budget)
		want         int // of 10,000 asked for
	}{
		"starts with a window of the floor":       {0, 10, func(*attempt.Budget) {}, 30},
		"calls earn their share":                  {0.2, 0, func(b *attempt.Budget) { calls(b, 1000) }, 200},
		"nothing allows nothing":                  {0, 0, func(b *attempt.Budget) { calls(b, 1000) }, 0},
		"negative is nothing":                     {-1, -1, func(b *attempt.Budget) { calls(b, 1000) }, 0},
		"no number is nothing":                    {math.NaN(), math.NaN(), func(b *attempt.Budget) { calls(b, 1000) }, 0},
		"no bound on the ratio":                   {math.Inf(1), 0, func(*attempt.Budget) {}, 10000},
		"no bound on the floor":                   {0, math.Inf(1), func(*attempt.Budget) {}, 10000},
		"time earns the floor":                    {0, 10, func(b *attempt.Budget) { taken(b, 30); time.Sleep(time.Second) }, 10},
		"time earns no more than a window":        {0, 10, func(*attempt.Budget) { time.Sleep(time.Hour) }, 30},
		"calls of long ago have faded":            {1, 0, func(b *attempt.Budget) { calls(b, 1000); time.Sleep(100 * window) }, 10},
		"what was not used fades":                 {1, 0, func(b *attempt.Budget) { calls(b, 1001); b.Take(); time.Sleep(window / 2) }, 500},
		"what was not used has faded in a window": {1, 0, func(b *attempt.Budget) { calls(b, 1000); b.Take(); time.Sleep(window) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := attempt.NewBudget(tt.ratio, tt.floor)
				tt.use(b)
				if got := taken(b, 10000); got != tt.want {
					t.Errorf("%d attempts, want %d", got, tt.want)
				}
			})
		})
	}
}

// An outage: every call wants two more attempts, for 30 s at 1,000 calls a second.
func TestBudgetInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := attempt.NewBudget(0.2, 10)
		for range 60_000 { // a minute of good times
			b.Call()
			time.Sleep(time.Millisecond)
		}
		extra := 0
		for range 30_000 {
			b.Call()
			extra += taken(b, 2)
			time.Sleep(time.Millisecond)
		}
		if extra < 6000 || extra > 7500 {
			t.Errorf("%d extra attempts for 30,000 calls, want about 6,300 and what the last window had left", extra)
		}
	})
}

// A clock that goes back, as from a real one into a bubble's, earns nothing.
func TestBudgetOfAnotherClock(t *testing.T) {
	b := attempt.NewBudget(0, 10)
	synctest.Test(t, func(t *testing.T) {
		if got := taken(b, 100); got != 30 {
			t.Errorf("%d attempts, want 30", got)
		}
	})
}

// FuzzBudget makes calls and attempts with pauses between them, and checks the
// bound that the budget promises.
func FuzzBudget(f *testing.F) {
	f.Add(0.2, 10.0, []byte{10, 5, 1, 200, 100, 0, 0, 0, 255})
	f.Add(1.0, 0.0, []byte{255, 255, 255})
	f.Fuzz(func(t *testing.T, ratio, floor float64, steps []byte) {
		if !(ratio >= 0 && ratio < 100 && floor >= 0 && floor < 1e6) {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			b := attempt.NewBudget(ratio, floor)
			began, made, extra := time.Now(), 0, 0
			for ; len(steps) >= 3; steps = steps[3:] {
				calls(b, int(steps[0]))
				made += int(steps[0])
				time.Sleep(time.Duration(steps[1]) * 20 * time.Millisecond)
				extra += taken(b, int(steps[2]))
			}
			most := ratio*float64(made) + floor*(time.Since(began)+window).Seconds()
			if float64(extra) > most*1.000001 {
				t.Errorf("%d extra attempts for %d calls in %v, want at most %f", extra, made, time.Since(began), most)
			}
		})
	})
}

// Whoever hands on the names of services that callers make up does not fill the
// memory: those that are too many share a budget.
func TestBudgetsAreBounded(t *testing.T) {
	b, budgets := attempt.NewBudgets(0.2, 10), map[*attempt.Budget]bool{}
	for i := range 10_000 {
		budgets[b.Of(fmt.Sprintf("/made.Up%d/Get", i))] = true
	}
	if len(budgets) < 100 || len(budgets) > 1000 || b.Of("/made.Up0/Get") != b.Of("/made.Up0/Put") {
		t.Errorf("%d budgets", len(budgets))
	}
	if attempt.NewBudgets(math.Inf(1), 0).Of("/a.B/C") != nil {
		t.Error("a bound that was to be lifted")
	}
}
