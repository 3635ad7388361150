package failmode_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

func TestFailsafeHidesTheError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w := newWorld(t, "abc", failmode.Failsafe, failmode.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		if got, err := w.client.Get(t.Context(), get); err != nil || got.GetInstanceId() == "" || log.Len() > 0 {
			t.Errorf("a call that succeeds: %v, %v, log: %s", got, err, &log)
		}
		w.all(func(*testenv.Server) testenv.Hook { return testenv.Answer(codes.Unavailable) })
		reply := &echov1.GetResponse{Value: "of an earlier call"}
		if err := w.conn.Invoke(t.Context(), echov1.Echo_Get_FullMethodName, get, reply); err != nil || reply.GetValue() != "" || w.executed() != 2 {
			t.Errorf("%v, reply %v, executed %d times; want no error, an empty reply and one attempt", err, reply, w.executed()-1)
		}
		if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "mode=failsafe method=/rollcall.echo.v1.Echo/Get") ||
			!strings.Contains(got, "as the test wants it") {
			t.Errorf("log: %s", got)
		}
		stream, err := w.client.Stream(t.Context(), threeMessages)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("a stream: %v, want its error", err)
		}
	})
}

// A logger is what Failsafe is about, so there is one.
func TestFailsafeLogsByDefault(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	var log bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	if err := call(t.Context(), &fake{script: []outcome{unavailable}}, failmode.UnaryClientInterceptor(failmode.Failsafe)); err != nil || !strings.Contains(log.String(), asTheScriptSays) {
		t.Errorf("%v, log: %s", err, &log)
	}
}

func TestForking(t *testing.T) {
	slow, quick, bad := testenv.Delay(time.Second), testenv.Delay(20*ms), after(10*ms, testenv.Answer(codes.Unavailable))
	const outrun, failed = failmode.ReasonOutrun, failmode.ReasonIdempotent
	for name, tt := range map[string]struct {
		ids     string
		hooks   []testenv.Hook // of those that are called first, second, and so on
		opts    []grpc.CallOption
		code    codes.Code
		took    time.Duration
		reasons []string
	}{
		"the first is fastest":        {"abcd", []testenv.Hook{quick, slow, slow}, nil, codes.OK, 20 * ms, []string{outrun, outrun, failmode.ReasonSucceeded}},
		"the second is fastest":       {"abcd", []testenv.Hook{slow, quick, slow}, nil, codes.OK, 21 * ms, []string{outrun, outrun, failmode.ReasonSucceeded}},
		"the third is fastest":        {"abcd", []testenv.Hook{slow, slow, quick}, nil, codes.OK, 22 * ms, []string{outrun, outrun, failmode.ReasonSucceeded}},
		"two fail":                    {"abcd", []testenv.Hook{bad, quick, bad}, nil, codes.OK, 21 * ms, []string{failed, failed, failmode.ReasonSucceeded}},
		"an answer is one":            {"abcd", []testenv.Hook{slow, testenv.Answer(codes.NotFound), slow}, nil, codes.NotFound, ms, []string{outrun, failmode.ReasonNotRetryable}},
		"all fail":                    {"abcd", []testenv.Hook{bad, bad, bad}, nil, codes.Unavailable, 12 * ms, []string{failed, failed, failmode.ReasonUsedUp}},
		"fewer instances":             {"ab", []testenv.Hook{slow, quick}, nil, codes.OK, 21 * ms, []string{outrun, failmode.ReasonSucceeded}},
		"five":                        {"abcde", []testenv.Hook{slow, slow, slow, slow, quick}, []grpc.CallOption{failmode.WithMaxAttempts(5)}, codes.OK, 24 * ms, []string{outrun, outrun, outrun, outrun, failmode.ReasonSucceeded}},
		"answered before the second":  {"abcd", []testenv.Hook{nil}, nil, codes.OK, 0, []string{failmode.ReasonSucceeded}},
		"one attempt":                 {"abcd", []testenv.Hook{quick}, []grpc.CallOption{failmode.WithMaxAttempts(1)}, codes.OK, 20 * ms, []string{failmode.ReasonSucceeded}},
		"not for this method":         {"abcd", []testenv.Hook{quick}, []grpc.CallOption{failmode.Idempotent(false)}, codes.OK, 20 * ms, []string{failmode.ReasonSucceeded}},
		"the attempts' own time ends": {"abcd", []testenv.Hook{slow, slow, slow}, []grpc.CallOption{failmode.WithPerAttemptTimeout(50 * ms)}, codes.DeadlineExceeded, 52 * ms, []string{failed, failed, failmode.ReasonUsedUp}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, tt.ids, failmode.Forking, failmode.WithBudget(0, 0))
				w.inTurn(tt.hooks...)
				d := &delivered{}
				var got *echov1.GetResponse
				var err error
				passed := took(func() { got, err = w.client.Get(t.Context(), get, append(d.options(), tt.opts...)...) })
				if status.Code(err) != tt.code || passed != tt.took {
					t.Errorf("%v after %v, want %v after %v", err, passed, tt.code, tt.took)
				}
				var reasons []string
				events := w.take()
				for i, e := range events {
					if reasons = append(reasons, e.Reason); e.Attempt > len(events) || err != nil && e.Attempt != i+1 {
						t.Errorf("event %d is of attempt %d", i, e.Attempt)
					}
				}
				ids := targets(events)
				if slices.Sort(ids); !slices.Equal(reasons, tt.reasons) || len(slices.Compact(ids)) != len(tt.reasons) || w.executed() != len(tt.reasons) {
					t.Fatalf("%d executed, attempts at %v ended because %q, want %q", w.executed(), ids, reasons, tt.reasons)
				}
				if id := events[len(events)-1].Target.ID; err == nil && (got.GetInstanceId() != id || !strings.HasPrefix(d.by(), id+" "+id)) {
					t.Errorf("reply of %q, header, trailer and peer of %s; want %s", got.GetInstanceId(), d.by(), id)
				}
			})
		})
	}
}

// A server that wants no other attempt is heeded when all have failed.
func TestForkingHeedsAdvice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Forking, failmode.WithMaxAttempts(20))
		never := func(ctx context.Context, method string) error {
			grpc.SetTrailer(ctx, drain.NoRetry())
			return after(10*ms, testenv.Answer(codes.Unavailable))(ctx, method)
		}
		w.inTurn(never, after(10*ms, testenv.Answer(codes.Unavailable)))
		_, err := w.client.Get(t.Context(), get)
		if failed, ok := errors.AsType[*failmode.Error](err); !ok || failed.Reason != failmode.ReasonDiscouraged || len(failed.Attempts) != 3 {
			t.Errorf("error: %v", err)
		}
	})
}

func TestBroadcastReachesEveryInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abcde", failmode.Broadcast, failmode.WithBudget(0, 0))
		w.all(func(s *testenv.Server) testenv.Hook {
			return func(ctx context.Context, _ string) error {
				grpc.SetHeader(ctx, mdOf("served-by", s.Instance().ID))
				grpc.SetTrailer(ctx, mdOf("served-by", s.Instance().ID))
				time.Sleep(time.Second)
				return nil
			}
		})
		for range 10 {
			d := &delivered{}
			var got *echov1.GetResponse
			var err error
			passed := took(func() { got, err = w.client.Get(t.Context(), get, d.options()...) })
			id := got.GetInstanceId()
			if err != nil || passed != 2*time.Second || id == "" || !strings.HasPrefix(d.by(), id+" "+id) {
				t.Errorf("%v after %v; reply of %q, header, trailer and peer of %s", err, passed, id, d.by())
			}
		}
		for _, s := range w.servers {
			if s.Executed() != 10 {
				t.Errorf("%s executed %d of 10 calls", s.Instance().ID, s.Executed())
			}
		}
	})
}

func TestBroadcastNamesWhoHasNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abcde", failmode.Broadcast)
		w.server("b").OnCall(testenv.Answer(codes.Unavailable))
		w.server("c").OnCall(testenv.Answer(codes.NotFound))
		w.server("d").Kill()
		time.Sleep(time.Second)
		for range 5 { // whoever is the first
			before := w.server("b").Executed()
			_, err := w.client.Get(t.Context(), get)
			for _, want := range []string{"at b: rpc error: code = Unavailable desc = as the test wants it (3 attempts: b Unavailable answered, b ", "at c: rpc error: code = NotFound", "at d: ", "connection refused"} {
				if err == nil || strings.Count(err.Error(), want) != 1 {
					t.Fatalf("error: %v\nwant once %q", err, want)
				}
			}
			if n := w.server("b").Executed() - before; n != 3 || status.Code(err) == codes.Unknown || strings.Contains(err.Error(), "at a:") {
				t.Errorf("%d attempts at b, error: %v", n, err)
			}
		}
		if a := w.server("a").Executed(); a != 5 || w.server("c").Executed() != 5 {
			t.Errorf("a executed %d of 5 calls, c %d", a, w.server("c").Executed())
		}
	})
}

// gRPC finds the connection of the first one lost in that moment and picks again:
// that one has still to be reached.
func TestBroadcastWhenAnInstanceIsLost(t *testing.T) {
	var mu sync.Mutex
	made := map[string]int{}
	invoker := func(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		mu.Lock()
		defer mu.Unlock()
		record := pick.FromContext(ctx).For(method)
		id, pinned := record.Pinned()
		if !pinned {
			record.SetInstances([]string{"a", "b", "c"})
			record.Unused(record.Begin(&pick.Target{ID: "a"}))
			id = "b"
		}
		made[id]++
		record.End(record.Begin(&pick.Target{ID: id}), pick.Answered, nil)
		return nil
	}
	broadcast := failmode.UnaryClientInterceptor(failmode.Broadcast)
	err := broadcast(t.Context(), echov1.Echo_Get_FullMethodName, get, new(echov1.GetResponse), nil, invoker)
	if want := map[string]int{"a": 1, "b": 1, "c": 1}; err != nil || !maps.Equal(made, want) {
		t.Errorf("%v, attempts %v; want one for each", err, made)
	}
}

func TestBroadcastIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Broadcast)
		if _, err := w.client.Add(t.Context(), add); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "WithIdempotent") {
			t.Errorf("a method that may not run again: %v", err)
		}
		if _, err := w.client.Stream(t.Context(), threeMessages); status.Code(err) != codes.Unimplemented {
			t.Errorf("a stream: %v", err)
		}
		type other struct{}
		if err := failmode.UnaryClientInterceptor(failmode.Broadcast)(t.Context(), echov1.Echo_Get_FullMethodName, get, &other{}, nil, nil); status.Code(err) != codes.Internal {
			t.Errorf("another codec: %v", err)
		}
		if w.executed() > 0 {
			t.Errorf("executed %d times", w.executed())
		}
		w.dial(append(w.intercept(failmode.Broadcast), grpc.WithDefaultServiceConfig(stockPolicy))...)
		if _, err := w.client.Get(t.Context(), get); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "another policy than rollcall") {
			t.Errorf("another policy: %v", err)
		}
	})
}

// Nobody was asked, and nobody is.
func TestBroadcastToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Broadcast)
		w.server("a").Kill()
		w.server("b").Kill()
		time.Sleep(time.Second)
		var err error
		if d := took(func() { _, err = w.client.Get(t.Context(), get) }); status.Code(err) != codes.Unavailable || d > time.Second {
			t.Errorf("%v after %v", err, d)
		}
	})
}

// An instance that goes on connecting is waited for as long as the longest backoff.
func TestBroadcastDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Broadcast, failmode.WithMaxAttempts(1))
		w.dial(append(w.intercept(failmode.Broadcast), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			if addr == w.server("b").Addr {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return w.Network.Dial(ctx, addr)
		}))...)
		var err error
		d := took(func() { _, err = w.client.Get(t.Context(), get, failmode.WithMaxAttempts(1)) })
		if err == nil || !strings.Contains(err.Error(), "at b: ") || !strings.Contains(err.Error(), "pinned instance b is still connecting after 1s") || d != time.Second {
			t.Errorf("%v after %v", err, d)
		}
	})
}
