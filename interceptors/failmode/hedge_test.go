package failmode_test

import (
	"context"
	crand "crypto/rand"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

// inTurn makes the server that is called first do the first of these, the one that
// is called second the second, and so on; the last is for all that follow.
func (w *world) inTurn(hooks ...testenv.Hook) {
	var called atomic.Int64
	w.all(func(s *testenv.Server) testenv.Hook {
		return func(ctx context.Context, method string) error {
			grpc.SetHeader(ctx, mdOf("served-by", s.Instance().ID))
			grpc.SetTrailer(ctx, mdOf("served-by", s.Instance().ID))
			n := int(called.Add(1))
			if do := hooks[min(n, len(hooks))-1]; do != nil {
				return do(ctx, method)
			}
			return nil
		}
	})
}

func after(d time.Duration, then testenv.Hook) testenv.Hook {
	return func(ctx context.Context, method string) error {
		if err := testenv.Delay(d)(ctx, method); err != nil {
			return err
		}
		return then(ctx, method)
	}
}

func TestHedging(t *testing.T) {
	slow, quick := testenv.Delay(time.Second), testenv.Delay(ms)
	bad := testenv.Answer(codes.Unavailable)
	for name, tt := range map[string]struct {
		ids         string
		this, that  testenv.Hook
		opts        []grpc.CallOption
		code        codes.Code
		took        time.Duration
		reasons     []string
		hedgeAnswer bool
	}{
		"answered in time":      {"abc", quick, quick, nil, codes.OK, ms, []string{failmode.ReasonSucceeded}, false},
		"the hedge is faster":   {"abc", slow, quick, nil, codes.OK, 11 * ms, []string{failmode.ReasonOutrun, failmode.ReasonSucceeded}, true},
		"the hedge is slower":   {"abc", testenv.Delay(20 * ms), slow, nil, codes.OK, 20 * ms, []string{failmode.ReasonOutrun, failmode.ReasonSucceeded}, false},
		"the hedge fails":       {"abc", testenv.Delay(20 * ms), bad, nil, codes.OK, 20 * ms, []string{failmode.ReasonIdempotent, failmode.ReasonSucceeded}, false},
		"the hedge is told no":  {"abc", slow, testenv.Answer(codes.NotFound), nil, codes.NotFound, 10 * ms, []string{failmode.ReasonOutrun, failmode.ReasonNotRetryable}, true},
		"the first is told no":  {"abc", after(20*ms, testenv.Answer(codes.NotFound)), slow, nil, codes.NotFound, 20 * ms, []string{failmode.ReasonOutrun, failmode.ReasonNotRetryable}, false},
		"the first fails early": {"abc", after(ms, bad), quick, nil, codes.OK, 2 * ms, []string{failmode.ReasonIdempotent, failmode.ReasonSucceeded}, false},
		"the first fails late":  {"abc", after(20*ms, bad), testenv.Delay(30 * ms), nil, codes.OK, 40 * ms, []string{failmode.ReasonIdempotent, failmode.ReasonSucceeded}, true},
		"a code to try again":   {"abc", after(20*ms, testenv.Answer(codes.Aborted)), testenv.Delay(30 * ms), []grpc.CallOption{failmode.WithRetryableCodes(codes.Aborted)}, codes.OK, 40 * ms, []string{failmode.ReasonIdempotent, failmode.ReasonSucceeded}, true},
		"nobody else":           {"a", testenv.Delay(20 * ms), quick, nil, codes.OK, 20 * ms, []string{failmode.ReasonSucceeded}, false},
		"no attempts left":      {"abc", slow, quick, []grpc.CallOption{failmode.WithMaxAttempts(1)}, codes.OK, time.Second, []string{failmode.ReasonSucceeded}, false},
		"not for this method":   {"abc", slow, quick, []grpc.CallOption{failmode.Idempotent(false)}, codes.OK, time.Second, []string{failmode.ReasonSucceeded}, false},
		"not in this mode":      {"abc", slow, quick, []grpc.CallOption{failmode.WithMode(failmode.Failretry)}, codes.OK, time.Second, []string{failmode.ReasonSucceeded}, false},
		"not for this call":     {"abc", slow, quick, []grpc.CallOption{failmode.WithHedging(-1)}, codes.OK, time.Second, []string{failmode.ReasonSucceeded}, false},
		"soon":                  {"abc", slow, testenv.Delay(5 * ms), []grpc.CallOption{failmode.WithHedging(0)}, codes.OK, 6 * ms, []string{failmode.ReasonOutrun, failmode.ReasonSucceeded}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, tt.ids, failmode.Failover, failmode.WithHedging(10*ms))
				w.inTurn(tt.this, tt.that)
				d := &delivered{}
				var got *echov1.GetResponse
				var err error
				passed := took(func() { got, err = w.client.Get(t.Context(), get, append(d.options(), tt.opts...)...) })
				if status.Code(err) != tt.code || passed != tt.took {
					t.Errorf("%v after %v, want %v after %v", err, passed, tt.code, tt.took)
				}
				events := w.take()
				var reasons, picked []string
				for _, e := range events {
					reasons, picked = append(reasons, e.Reason), append(picked, e.Target.ID)
				}
				if !slices.Equal(reasons, tt.reasons) {
					t.Fatalf("attempts ended because %q, want %q", reasons, tt.reasons)
				}
				if slices.Sort(picked); len(slices.Compact(picked)) != len(events) {
					t.Errorf("attempts went to %v", picked)
				}
				answer := events[len(events)-1]
				if answer.Hedge != tt.hedgeAnswer {
					t.Errorf("answered by the hedge: %t", answer.Hedge)
				}
				if id := answer.Target.ID; err == nil && got.GetInstanceId() != id || d.by() != servedBy(w.server(id)) {
					t.Errorf("reply of %q, header, trailer and peer of %s; want %s", got.GetInstanceId(), d.by(), id)
				}
			})
		})
	}
}

// What the caller sees of two attempts is one; a hedge that has had no chance
// costs no budget.
func TestHedgesComeOutOfTheBudget(t *testing.T) {
	for ids, want := range map[string]int{"ab": 119, "a": 100} { // of 20 hedges, what time takes of them as well
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, ids, failmode.Failover, failmode.WithHedging(ms), failmode.WithBudget(0.2, 0))
			w.all(func(*testenv.Server) testenv.Hook { return testenv.Delay(2 * ms) })
			for range 100 {
				if _, err := w.client.Get(t.Context(), get); err != nil {
					t.Error(err)
				}
			}
			if w.executed() != want {
				t.Errorf("%d attempts at %q, want %d", w.executed(), ids, want)
			}
		})
	}
}

func TestCallerEndsBothAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover, failmode.WithHedging(10*ms))
		w.all(func(*testenv.Server) testenv.Hook { return testenv.Hang })
		ctx, cancel := context.WithTimeout(t.Context(), 50*ms)
		defer cancel()
		var err error
		d := took(func() { _, err = w.client.Get(ctx, get) })
		if status.Code(err) != codes.DeadlineExceeded || d != 50*ms || len(w.take()) != 2 {
			t.Errorf("%v after %v", err, d)
		}
	})
}

func TestOwnTimeoutOfHedges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover, failmode.WithHedging(10*ms), failmode.WithPerAttemptTimeout(50*ms), failmode.WithBackoff(0, 0))
		w.all(func(*testenv.Server) testenv.Hook { return testenv.Hang })
		var err error
		d := took(func() { _, err = w.client.Get(t.Context(), get) })
		if events := w.take(); status.Code(err) != codes.DeadlineExceeded || d != 110*ms || len(events) != 3 || events[2].Hedge {
			t.Errorf("%v after %v, %d attempts", err, d, len(events))
		}
	})
}

// Nothing is known about where other policies send an attempt.
func TestNoHedgesWithAnotherPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover)
		w.dial(append(w.intercept(failmode.Failover, failmode.WithHedging(0)),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))...)
		if _, err := w.client.Get(t.Context(), get); err != nil || w.executed() != 1 {
			t.Errorf("%d attempts, %v", w.executed(), err)
		}
	})
}

// The delay follows what the method has taken.
func TestHedgingAtAQuantile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover, failmode.WithHedgingQuantile(0.9))
		for _, usual := range []time.Duration{4 * ms, 40 * ms} {
			w.inTurn(nil, testenv.Delay(usual))
			for range 100 {
				w.client.Get(t.Context(), get)
			}
			w.take()
			w.inTurn(testenv.Delay(time.Second), testenv.Delay(usual))
			d := took(func() { w.client.Get(t.Context(), get) })
			if events := w.take(); len(events) != 2 || d < 2*usual || d > 5*usual/2 {
				t.Errorf("%d attempts took %v, where %v is usual", len(events), d, usual)
			}
			time.Sleep(time.Minute)
		}
		w.inTurn(testenv.Delay(time.Second), nil)
		if w.client.Get(t.Context(), get); len(w.take()) != 1 {
			t.Error("hedged though nothing is known any more")
		}
	})
}

// One of three instances is 100 times as slow: hedges keep the 99th percentile
// where it is without that instance.
func TestHedgingHidesASlowInstance(t *testing.T) {
	const calls, every = 2000, 20 * ms // at which rate the default budget is enough
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p99 := func(slow time.Duration, opts ...failmode.Option) (p99 time.Duration, attempts int) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			var mu sync.Mutex // guards random
			w := newWorld(t, "abc", failmode.Failover, opts...)
			w.dial(append(w.intercept(failmode.Failover, opts...), grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.Random{})))...)
			w.all(func(s *testenv.Server) testenv.Hook {
				return func(ctx context.Context, method string) error {
					mu.Lock()
					d := 8*ms + time.Duration(random.Int64N(int64(4*ms)))
					mu.Unlock()
					if s.Instance().ID == "a" {
						d *= slow
					}
					return testenv.Delay(d)(ctx, method)
				}
			})
			latencies := make([]time.Duration, calls)
			var done sync.WaitGroup
			for i := range calls {
				done.Go(func() {
					latencies[i] = took(func() {
						if _, err := w.client.Get(t.Context(), get); err != nil {
							t.Error(err)
						}
					})
				})
				time.Sleep(every)
			}
			done.Wait()
			slices.Sort(latencies)
			p99, attempts = latencies[calls*99/100], w.executed()
		})
		return p99, attempts
	}
	without, _ := p99(1)
	unhedged, _ := p99(100)
	hedged, attempts := p99(100, failmode.WithHedging(20*ms))
	t.Logf("p99: %v; with a slow instance %v, and hedged %v, in %d attempts for %d calls", without, unhedged, hedged, attempts, calls)
	most := calls*6/5 + 10*int((calls*every+3*time.Second)/time.Second)
	if hedged > 3*without || unhedged <= 3*without || attempts > most {
		t.Errorf("want at most %v in at most %d attempts, and more without hedges", 3*without, most)
	}
}

// Both attempts of many calls end at about the same time, with both results.
func TestHedgesRaceForTheCallersResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover, failmode.WithHedging(0), unlimited)
		for _, s := range w.servers {
			s.OnCall(func(ctx context.Context, _ string) error {
				grpc.SetHeader(ctx, mdOf("served-by", s.Instance().ID))
				grpc.SetTrailer(ctx, mdOf("served-by", s.Instance().ID))
				time.Sleep(time.Duration(1+rand.N(3)) * ms)
				return nil
			})
		}
		var done sync.WaitGroup
		for range 8 {
			done.Go(func() {
				for range 200 {
					d := &delivered{}
					got, err := w.client.Get(t.Context(), get, d.options()...)
					if id := got.GetInstanceId(); err != nil || d.by() != servedBy(w.server(id)) {
						t.Errorf("%v; reply of %s, header, trailer and peer of %s", err, id, d.by())
					}
				}
			})
		}
		done.Wait()
		time.Sleep(time.Second) // the handlers of the slower attempts end
		for _, e := range w.take() {
			if len(e.Picks) > 1 || e.Err == nil && e.Class != pick.Answered {
				t.Fatalf("an attempt has seen another one's picks: %+v", e)
			}
		}
	})
}

// What is learnt of a call whose hedge was faster is how long the hedge took, and not
// how long the attempt that was cut off took to end.
func TestHedgesLatencyIsLearnt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		interceptor := failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithHedging(10*ms), failmode.Idempotent(true), unlimited)
		begin := func(ctx context.Context) (n int, end func(error) error) {
			record := pick.FromContext(ctx)
			n = record.Begin(&pick.Target{ID: crand.Text()})
			return n, func(err error) error {
				record.End(n, pick.Answered, err)
				return err
			}
		}
		reply := func() *echov1.GetResponse { return new(echov1.GetResponse) }
		for range 20 {
			err := interceptor(t.Context(), "/s/m", nil, reply(), nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				n, end := begin(ctx)
				if n > 0 {
					time.Sleep(ms)
					return end(nil)
				}
				<-ctx.Done()
				time.Sleep(time.Second)
				return end(status.FromContextError(ctx.Err()).Err())
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*ms) // enough for another attempt
		defer cancel()
		err := interceptor(ctx, "/s/m", nil, reply(), nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			if n, end := begin(ctx); n == 0 {
				return end(status.Error(codes.Unavailable, "gone"))
			} else {
				return end(nil)
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}
