package failmode_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/pick"
)

// perSecond makes this many calls a second for d; of gives the outcomes of the
// i-th one's attempts. It returns how many attempts there were and how many
// calls failed.
func perSecond(t *testing.T, calls int, d time.Duration, interceptor grpc.UnaryClientInterceptor, of func(i int) []outcome) (attempts, failed int) {
	pause := time.Second / time.Duration(calls)
	for i := range int(d / pause) {
		f := &fake{script: of(i)}
		if err := call(t.Context(), f, interceptor, failmode.Idempotent(true), failmode.WithBackoff(0, 0)); err != nil {
			failed++
		}
		attempts += len(f.made)
		time.Sleep(pause)
	}
	return attempts, failed
}

// When everything is down, the attempts stay near the calls, also right after
// good times in which the budget was full.
func TestDefaultBudgetInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		interceptor := failmode.UnaryClientInterceptor(failmode.Failover)
		perSecond(t, 1000, 10*time.Second, interceptor, func(int) []outcome { return []outcome{{class: pick.Answered}} })
		for _, class := range []pick.Class{pick.Answered, pick.NotSent} {
			attempts, failed := perSecond(t, 1000, 30*time.Second, interceptor, func(int) []outcome {
				return []outcome{{class: class, code: unavailable.code}}
			})
			t.Logf("%v: %d attempts for 30000 calls", class, attempts)
			if failed != 30_000 || attempts > 30_000*5/4 || attempts < 30_000*6/5 {
				t.Errorf("%v: %d calls failed in %d attempts, want 30000 in 1.2 to 1.25 times as many", class, failed, attempts)
			}
		}
	})
}

// What the default budget is for: one of three instances that always fails, at a
// low rate; and the calls that are in hand when one of three dies.
func TestDefaultBudgetCarriesWhatItIsFor(t *testing.T) {
	good := []outcome{{class: pick.Answered}}
	oneOfThree := func(i int) []outcome {
		if i%3 == 0 {
			return []outcome{unavailable, {class: pick.Answered}}
		}
		return good
	}
	for name, tt := range map[string]struct {
		calls int
		of    func(i int) []outcome
	}{
		"one of three fails, 1 call/s":   {1, oneOfThree},
		"one of three fails, 50 calls/s": {50, oneOfThree},
		"300 of 2000 calls/s at once": {2000, func(i int) []outcome {
			if i >= 20_000 && i < 20_300 {
				return []outcome{{class: pick.Unanswered, code: unavailable.code}, {class: pick.Answered}}
			}
			return good
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, failed := perSecond(t, tt.calls, 30*time.Second, failmode.UnaryClientInterceptor(failmode.Failover), tt.of)
				if failed > 0 {
					t.Errorf("%d calls failed", failed)
				}
			})
		})
	}
}

// Each service has a budget of its own, and one Option is one budget for all that it
// is given to.
func TestWhoSharesABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := failmode.WithBudget(0, 1) // three at first, and then one a second
		interceptor := failmode.UnaryClientInterceptor(failmode.Failover, failmode.Idempotent(true), budget)
		another := failmode.UnaryClientInterceptor(failmode.Failover, failmode.Idempotent(true), budget)
		extra := func(method string, interceptor grpc.UnaryClientInterceptor) (n int) {
			for range 10 {
				f := &fake{script: []outcome{unavailable}}
				interceptor(t.Context(), method, nil, nil, nil, f.invoke, failmode.WithMaxAttempts(2))
				n += len(f.made) - 1
			}
			return n
		}
		for _, step := range []struct {
			method string
			by     grpc.UnaryClientInterceptor
			want   int
		}{
			{"/shop.Orders/Get", interceptor, 3}, {"/shop.Orders/List", interceptor, 0}, {"/shop.Orders/List", another, 0},
			{"/shop.Carts/Get", another, 3}, {"/shop.Carts/Get", interceptor, 0}, {"odd", interceptor, 3}, {"", interceptor, 0},
		} {
			if got := extra(step.method, step.by); got != step.want {
				t.Errorf("%s: %d extra attempts, want %d", step.method, got, step.want)
			}
		}
	})
}
