package failmode_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

const stockPolicy = `{"loadBalancingConfig": [{"round_robin": {}}]}`

// dialWhen connects w again, to servers that answer when release is closed.
func (w *world) dialWhen(release <-chan struct{}, opts ...grpc.DialOption) {
	w.dial(append(opts, grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Hour}),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			<-release
			return w.Network.Dial(ctx, addr)
		}))...)
}

// wantDoubt checks that a payment was made once and that the error does not deny
// it.
func wantDoubt(t *testing.T, err error, executed int) {
	t.Helper()
	if failed, ok := errors.AsType[*failmode.Error](err); executed != 1 || !ok || !failed.MayHaveExecuted() {
		t.Errorf("executed %d times, error: %v", executed, err)
	}
}

// A pick that waits is taken over by another policy, of which nobody hears.
func TestPolicyThatChangesUnderAPickProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", failmode.Failover)
		w.server("a").OnCall(testenv.Answer(codes.Unavailable))
		release := make(chan struct{})
		w.dialWhen(release, w.intercept(failmode.Failover)...)
		result := make(chan error, 1)
		go func() {
			_, err := w.client.Add(t.Context(), add)
			result <- err
		}()
		synctest.Wait()
		state := w.state()
		state.ServiceConfig = w.names.CC().ParseServiceConfig(stockPolicy)
		w.names.UpdateState(state)
		synctest.Wait()
		close(release)
		wantDoubt(t, <-result, w.executed())
	})
}

// An interceptor below makes the call elsewhere where its own connection cannot.
func TestFallbackBelowProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backup := newWorld(t, "x", failmode.Failfast)
		backup.dial(grpc.WithDefaultServiceConfig(stockPolicy))
		backup.server("x").OnCall(testenv.Answer(codes.Unavailable))
		fallback := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if err := invoker(ctx, method, req, reply, cc, opts...); err == nil {
				return nil
			}
			return backup.conn.Invoke(context.WithoutCancel(ctx), method, req, reply)
		}
		w := newWorld(t, "a", failmode.Failover)
		w.dial(append(w.intercept(failmode.Failover), grpc.WithChainUnaryInterceptor(fallback))...)
		w.server("a").Kill()
		time.Sleep(time.Second)
		_, err := w.client.Add(t.Context(), add)
		wantDoubt(t, err, backup.executed())
	})
}

// An interceptor below gives up on an attempt that waits, and goes on waiting.
func TestAbandonedAttemptProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", failmode.Failover)
		impatient := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			done := make(chan error, 1)
			go func() { done <- invoker(ctx, method, req, new(echov1.AddResponse), cc, opts...) }()
			select {
			case err := <-done:
				return err
			case <-time.After(10 * ms):
				return status.Error(codes.Unavailable, "gave up")
			}
		}
		release := make(chan struct{})
		w.dialWhen(release, append(w.intercept(failmode.Failover), grpc.WithChainUnaryInterceptor(impatient))...)
		time.AfterFunc(15*ms, func() { close(release) })
		_, err := w.client.Add(t.Context(), add)
		time.Sleep(time.Second)
		wantDoubt(t, err, w.executed())
	})
}

// Only the error that the balancer saw is the end of the attempt that it saw.
func TestProofIsOfOneError(t *testing.T) {
	seen := status.Error(codes.Unavailable, "the connection is closing")
	for name, tt := range map[string]struct {
		told error
		made int
	}{
		"the same":          {seen, 2},
		"wrapped":           {fmt.Errorf("pay: %w", seen), 2},
		"more text":         {status.Error(codes.Unavailable, "pay: the connection is closing"), 2},
		"another text":      {status.Error(codes.Unavailable, "lost"), 1},
		"of another policy": {status.Error(codes.Unavailable, "rollcall: but not this one"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			for _, class := range []pick.Class{pick.NeverPicked, pick.NotSent, pick.Refused} {
				made := 0
				invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					made++
					record := pick.FromContext(ctx)
					if class == pick.NeverPicked {
						record.NotPicked(seen)
					} else {
						record.End(record.Begin(&pick.Target{ID: "a"}), class, seen)
					}
					return tt.told
				}
				interceptor := failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithMaxAttempts(2))
				if interceptor(t.Context(), "/shop.Orders/Pay", nil, nil, nil, invoker); made != tt.made {
					t.Errorf("%v: %d attempts, want %d", class, made, tt.made)
				}
			}
		})
	}
}

// A pick that led to no attempt proves something about the error that gRPC makes
// of it, and where gRPC goes on to pick again, about none.
func TestProofOfAPickThatFailed(t *testing.T) {
	nobody := errors.New("rollcall: nobody is ready")
	for name, tt := range map[string]struct {
		note func(*pick.Record)
		told string
		made int
	}{
		"no status":       {func(r *pick.Record) { r.NotPicked(nobody) }, nobody.Error(), 2},
		"another":         {func(r *pick.Record) { r.NotPicked(nobody) }, "rollcall: something else", 1},
		"not the last":    {func(r *pick.Record) { r.NotPicked(nobody); r.NotPicked(errLost) }, nobody.Error(), 1},
		"waits":           {func(r *pick.Record) { r.NotPicked(gbalancer.ErrNoSubConnAvailable) }, gbalancer.ErrNoSubConnAvailable.Error(), 1},
		"unused after it": {func(r *pick.Record) { r.NotPicked(nobody); r.Unused(r.Begin(&pick.Target{ID: "a"})) }, nobody.Error(), 1},
	} {
		t.Run(name, func(t *testing.T) {
			made := 0
			invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				made++
				tt.note(pick.FromContext(ctx))
				return status.Error(codes.Unavailable, tt.told)
			}
			interceptor := failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithMaxAttempts(2), failmode.WithBackoff(0, 0))
			if interceptor(t.Context(), "/shop.Orders/Pay", nil, nil, nil, invoker); made != tt.made {
				t.Errorf("%d attempts, want %d", made, tt.made)
			}
		})
	}
}
