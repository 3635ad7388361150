package failmode_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

// badCredentials fail on this side.
type badCredentials struct{ credentials.PerRPCCredentials }

func (badCredentials) RequireTransportSecurity() bool { return false }
func (badCredentials) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return nil, errors.New("no token")
}

func TestLocalFailuresAreNotRetried(t *testing.T) {
	for name, tt := range map[string]struct {
		ctx  func(context.Context) context.Context
		opts []grpc.CallOption
		code codes.Code
	}{
		"message too large":   {opts: []grpc.CallOption{grpc.MaxCallSendMsgSize(1)}, code: codes.ResourceExhausted},
		"credentials":         {opts: []grpc.CallOption{grpc.PerRPCCredentials(badCredentials{})}, code: codes.Internal},
		"unknown compressor":  {opts: []grpc.CallOption{grpc.UseCompressor("none such")}, code: codes.Internal},
		"unknown codec":       {opts: []grpc.CallOption{grpc.CallContentSubtype("none such")}, code: codes.Internal},
		"invalid header":      {ctx: header("x y", "z"), code: codes.Internal},
		"header list too big": {ctx: header("x", string(make([]byte, 64<<10))), code: codes.Internal},
		"reply too large":     {opts: []grpc.CallOption{grpc.MaxCallRecvMsgSize(0)}, code: codes.ResourceExhausted},
		"cancelled before":    {ctx: cancelledBefore, code: codes.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "", failmode.Failover)
				w.servers = append(w.servers, w.Start(instances("a")[0], grpc.MaxHeaderListSize(8<<10)))
				w.dial(w.intercept(failmode.Failover)...)
				ctx := t.Context()
				if tt.ctx != nil {
					ctx = tt.ctx(ctx)
				}
				_, err := w.client.Get(ctx, &echov1.GetRequest{Key: "key"}, tt.opts...)
				if events := w.take(); status.Code(err) != tt.code || len(events) != 1 {
					t.Errorf("%d attempts: %v", len(events), err)
				}
			})
		})
	}
}

func header(kv ...string) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context { return metadata.AppendToOutgoingContext(ctx, kv...) }
}

func cancelledBefore(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

func TestClosedClientConnIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Failover)
		w.conn.Close()
		if _, err := w.client.Get(t.Context(), get); status.Code(err) != codes.Canceled || len(w.take()) != 1 {
			t.Errorf("error: %v", err)
		}
	})
}

// With another policy nobody says what became of an attempt, and nothing is
// taken for a proof.
func TestAnotherPolicyProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover)
		w.dial(append(w.intercept(failmode.Failover),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))...)
		w.server("a").OnCall(kill(w.server("a")))
		w.server("b").OnCall(kill(w.server("b")))
		w.server("c").OnCall(kill(w.server("c")))
		for range 3 {
			if _, err := w.client.Add(t.Context(), add); status.Code(err) != codes.Unavailable {
				t.Errorf("error: %v", err)
			}
		}
		for _, e := range w.take() {
			if e.Class != pick.Untracked || e.Again {
				t.Errorf("attempt %d: %v, again %t", e.Attempt, e.Class, e.Again)
			}
		}
		if _, err := w.client.Get(t.Context(), get); err == nil || len(w.take()) != 3 {
			t.Errorf("an idempotent method: %v", err)
		}
	})
}

// gRPC picks again by itself when a connection is lost in that moment; what the
// first pick may have done must not be forgotten.
func TestTransparentRetryHidesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		picks []pick.Class
		made  int
	}{
		"the first may have executed": {[]pick.Class{pick.Unanswered, pick.NotSent}, 1},
		"the last may have executed":  {[]pick.Class{pick.NotSent, pick.Unanswered}, 1},
		"none has":                    {[]pick.Class{pick.NotSent, pick.NotSent}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			made := 0
			invoker := func(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				made++
				record, err := pick.FromContext(ctx), status.Error(codes.Unavailable, "lost")
				for _, class := range tt.picks {
					record.End(record.Begin(&pick.Target{ID: class.String()}), class, err)
				}
				return err
			}
			interceptor := failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithMaxAttempts(2))
			if interceptor(t.Context(), "/shop.Orders/Pay", nil, nil, nil, invoker); made != tt.made {
				t.Errorf("%d attempts, want %d", made, tt.made)
			}
		})
	}
}

// An interceptor below that makes a call of its own on the way, with the call's
// context, gets a record of its own: no pin, no class of the one is the other's.
func TestCallOnTheWayIsAnotherCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newWorld(t, "x", failmode.Failover)
		fetchToken := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if _, err := tokens.client.Put(ctx, &echov1.PutRequest{}); err != nil {
				return err
			}
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		w := newWorld(t, "ab", failmode.Failretry)
		w.dial(append(w.intercept(failmode.Failretry), grpc.WithChainUnaryInterceptor(fetchToken))...)
		w.all(func(s *testenv.Server) testenv.Hook { return testenv.Answer(codes.Unavailable) })
		_, err := w.client.Get(t.Context(), get)
		events := w.take()
		if len(events) != 3 || tokens.executed() != 3 {
			t.Fatalf("%d attempts, %d tokens, %v", len(events), tokens.executed(), err)
		}
		for _, e := range events {
			if len(e.Picks) != 1 || e.Target != events[0].Target {
				t.Errorf("attempt %d picked %v", e.Attempt, e.Picks)
			}
		}
	})
}
