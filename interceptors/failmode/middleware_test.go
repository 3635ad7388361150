package failmode_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/interceptors/track"
	"github.com/rollcall-go/rollcall/internal/testenv"
)

// The retry interceptor of go-grpc-middleware above and below ours: attempts do
// not multiply, and all of them go to instances that the call has not tried.
func TestRetryInterceptorOfTheMiddlewareStacks(t *testing.T) {
	theirs := retry.UnaryClientInterceptor(retry.WithMax(2), retry.WithCodes(codes.Unavailable),
		retry.WithBackoff(retry.BackoffLinear(time.Millisecond)))
	ours := failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithMaxAttempts(2))
	for name, tt := range map[string]struct {
		chain []grpc.UnaryClientInterceptor
		made  int
	}{
		"alone, with the record": {[]grpc.UnaryClientInterceptor{track.UnaryClientInterceptor(), theirs}, 2},
		"below ours":             {[]grpc.UnaryClientInterceptor{ours, theirs}, 2},
		"above ours":             {[]grpc.UnaryClientInterceptor{track.UnaryClientInterceptor(), theirs, ours}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "abcd", failmode.Failover)
				w.dial(grpc.WithChainUnaryInterceptor(tt.chain...))
				w.all(func(*testenv.Server) testenv.Hook { return testenv.Answer(codes.Unavailable) })
				if _, err := w.client.Get(t.Context(), get); err == nil || w.executed() != tt.made {
					t.Errorf("%d attempts, %v; want %d", w.executed(), err, tt.made)
				}
				for _, s := range w.servers {
					if n := s.Executed(); n > 1 {
						t.Errorf("%d attempts at %s", n, s.Instance().ID)
					}
				}
			})
		})
	}
}

// twoBadOfThree is a client of three instances, of which two never answer.
func twoBadOfThree(t *testing.T, opts ...grpc.DialOption) *world {
	w := newWorld(t, "abc", failmode.Failover)
	w.dial(opts...)
	w.server("a").OnCall(testenv.Answer(codes.Unavailable))
	w.server("b").OnCall(testenv.Answer(codes.Unavailable))
	return w
}

// failures is how many of n calls fail, made by several callers so that those of
// one do not take the turns of the policy one after another.
func failures(t *testing.T, w *world, n int) (failed int) {
	const callers = 8
	var count atomic.Int64
	var done sync.WaitGroup
	for range callers {
		done.Go(func() {
			for range n / callers {
				if _, err := w.client.Get(t.Context(), get); err != nil {
					count.Add(1)
				}
			}
		})
	}
	done.Wait()
	return int(count.Load())
}

// With the rollcall policy every way to retry finds the one good instance of three
// with three attempts, given only the record; with plain round_robin the same
// client often does not.
func TestTwoOfThreeAlwaysFail(t *testing.T) {
	calls := amount(1000, 10_000)
	config := func(policy string) grpc.DialOption {
		return grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [` + policy + `]}`)
	}
	retrying := func(policy string) grpc.DialOption {
		return grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [` + policy + `], "methodConfig": [{"name": [{}], "retryPolicy": {
			"maxAttempts": 3, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`)
	}
	theirs := retry.UnaryClientInterceptor(retry.WithMax(3), retry.WithCodes(codes.Unavailable))
	chain := func(interceptors ...grpc.UnaryClientInterceptor) grpc.DialOption {
		return grpc.WithChainUnaryInterceptor(interceptors...)
	}
	const ours, plain = `{"rollcall": {"picker": {"random": {}}}}`, `{"round_robin": {}}`
	for name, tt := range map[string]struct{ with, without []grpc.DialOption }{
		"failover": {
			[]grpc.DialOption{config(ours), chain(failmode.UnaryClientInterceptor(failmode.Failover, unlimited))},
			[]grpc.DialOption{config(plain), chain(failmode.UnaryClientInterceptor(failmode.Failover, unlimited))},
		},
		"gRPC's retryPolicy": {
			[]grpc.DialOption{retrying(ours), chain(track.UnaryClientInterceptor())},
			[]grpc.DialOption{retrying(plain)},
		},
		"go-grpc-middleware's": {
			[]grpc.DialOption{config(ours), chain(track.UnaryClientInterceptor(), theirs)},
			[]grpc.DialOption{config(plain), chain(theirs)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				with := failures(t, twoBadOfThree(t, tt.with...), calls)
				without := failures(t, twoBadOfThree(t, tt.without...), calls)
				t.Logf("of %d calls %d failed, with plain round_robin %d", calls, with, without)
				// Failover tries again at once, so that its turns of round_robin are
				// nearly always its own.
				if with > 0 || name != "failover" && without < calls/10 {
					t.Errorf("want none, and many with plain round_robin")
				}
			})
		})
	}
}
