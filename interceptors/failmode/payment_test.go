package failmode_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
)

// result is how one call has ended.
type result struct {
	key     string
	mode    failmode.Mode
	kind    kind
	err     error
	excused bool // it may fail though an instance is healthy
}

// tally counts attempts by class.
type tally [pick.Untracked + 1]atomic.Int64

func (n *tally) note(e failmode.AttemptEvent) { n[e.Class].Add(1) }

// A method without a promise is executed at most once for a call, in whatever mode,
// whatever happens to the servers. An error that says that a call was not executed is
// right. And where one instance is healthy, failover and forking fail for no other
// reason than that the call may have executed.
func TestPaymentIsNeverMadeTwice(t *testing.T) {
	calls, perPoint, perClass := amount(6000, 100_000), int64(amount(20, 200)), int64(amount(100, 1000))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var seen tally
	var harms [points]int64
	for _, healthy := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := newChaos(&world{System: testenv.New(t)}, 3, rand.New(rand.NewPCG(seed, 0)))
			c.dial(append(c.intercept(failmode.Failover, failmode.WithObserver(seen.note), unlimited,
				failmode.WithLogger(slog.New(slog.DiscardHandler))), fast, grpc.WithContextDialer(c.dialer))...)
			c.judge(t, c.run(t, calls/2, healthy), healthy)
			for at := range c.harms {
				harms[at] += c.harms[at].Load()
			}
		})
	}
	for at, n := range harms {
		if t.Logf("%s: %d times", pointNames[at], n); n < perPoint {
			t.Errorf("want %d", perPoint)
		}
	}
	for class := range pick.Untracked {
		n := seen[class].Load()
		if t.Logf("%v: %d attempts", class, n); n < perClass {
			t.Errorf("want %d", perClass)
		}
	}
}

// run makes calls while servers come to harm; healthy says that one does not.
func (c *chaos) run(t *testing.T, calls int, healthy bool) []result {
	const callers = 8
	var harm, done sync.WaitGroup
	for i := range c.now {
		if !healthy || i > 0 {
			harm.Go(func() { c.harm(i) })
		}
	}
	results := make([]result, calls)
	for caller := range callers {
		done.Go(func() {
			for i := caller; i < calls; i += callers {
				results[i] = c.pay(t.Context(), fmt.Sprint(i))
				if results[i].err != nil {
					c.pause(ms)
				}
			}
		})
	}
	done.Wait()
	close(c.over)
	harm.Wait()
	time.Sleep(time.Second) // the handlers that nobody waits for end as well
	return results
}

// pay makes a call of some kind in some mode.
func (c *chaos) pay(ctx context.Context, key string) result {
	r := result{key: key, mode: failmode.Mode(c.number(int(failmode.Broadcast) + 1)), kind: kinds[c.number(len(kinds))]}
	if c.number(3) == 0 {
		r.mode = failmode.Failover
	}
	opts := []grpc.CallOption{failmode.WithMode(r.mode)}
	switch c.number(8) {
	case 0:
		opts = append(opts, failmode.WithHedging(0))
	case 1:
		opts = append(opts, failmode.WithPerAttemptTimeout(20*ms))
	case 2:
		opts, r.excused = append(opts, grpc.PerRPCCredentials(new(lateCredentials))), true
	case 3:
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 1+time.Duration(c.number(int(10*ms))))
		defer cancel()
		r.excused = true
	}
	r.err = c.conn.Invoke(ctx, r.kind.method, r.kind.keyed(key), r.kind.reply(), opts...)
	return r
}

// judge looks at what the servers have executed.
func (c *chaos) judge(t *testing.T, results []result, healthy bool) {
	failed := map[failmode.Mode]int{}
	for _, r := range results {
		n := c.executed[r.key]
		if n > 1 && !r.kind.idempotent {
			t.Errorf("%v, %s: executed %d times: %v", r.mode, r.kind.method, n, r.err)
		}
		if n > 3 && r.mode != failmode.Broadcast {
			t.Errorf("%v, %s: executed %d times, with 3 attempts", r.mode, r.kind.method, n)
		}
		if r.err == nil {
			if n == 0 && r.mode != failmode.Failsafe {
				t.Errorf("%v, %s: succeeded and was not executed", r.mode, r.kind.method)
			}
			continue
		}
		failed[r.mode]++
		story, ok := errors.AsType[*failmode.Error](r.err)
		switch {
		case r.mode == failmode.Broadcast: // which has a story for each instance
		case !ok && status.Code(r.err) == codes.Unavailable:
			t.Errorf("%v, %s: an error without its story: %v", r.mode, r.kind.method, r.err)
		case ok && n > 0 && !story.MayHaveExecuted():
			t.Errorf("%v, %s: executed %d times, and the error denies it: %v", r.mode, r.kind.method, n, r.err)
		case healthy && !r.excused && (r.mode == failmode.Failover || r.mode == failmode.Forking) && !(ok && story.MayHaveExecuted()):
			t.Errorf("%v, %s: failed though an instance was healthy: %v", r.mode, r.kind.method, r.err)
		}
	}
	t.Logf("of %d calls failed: %v", len(results), failed)
}
