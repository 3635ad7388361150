package failmode_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/rollcall-go/rollcall/balancer"
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

// failures is how many of n calls fail.
func failures(t *testing.T, w *world, n int) (failed int) {
	for range n {
		if _, err := w.client.Get(t.Context(), get); err != nil {
			failed++
		}
	}
	return failed
}

// With the rollcall policy, the retries of other layers find the one good
// instance of three with three attempts, given only the record; without it they
// often do not.
func TestOtherRetryLayersNeedOnlyTheRecord(t *testing.T) {
	const calls = 500
	policy := balancer.ServiceConfig(balancer.Random{}, balancer.WithBase(`{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 3, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`))
	theirs := retry.UnaryClientInterceptor(retry.WithMax(3), retry.WithCodes(codes.Unavailable))
	for name, opts := range map[string][]grpc.DialOption{
		"gRPC's retryPolicy":   {grpc.WithDefaultServiceConfig(policy)},
		"go-grpc-middleware's": {grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.Random{})), grpc.WithChainUnaryInterceptor(theirs)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracked := append([]grpc.DialOption{grpc.WithChainUnaryInterceptor(track.UnaryClientInterceptor())}, opts...)
				if n := failures(t, twoBadOfThree(t, tracked...), calls); n > 0 {
					t.Errorf("%d of %d calls failed with the record", n, calls)
				}
				without := failures(t, twoBadOfThree(t, opts...), calls)
				t.Logf("without the record %d of %d calls failed", without, calls)
				if without < calls/10 {
					t.Errorf("without the record only %d of %d calls failed: the test shows nothing", without, calls)
				}
			})
		})
	}
}
