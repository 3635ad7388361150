package failmode_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
)

// advising answers Unavailable with this trailer.
func advising(kv ...string) testenv.Hook {
	return func(ctx context.Context, _ string) error {
		grpc.SetTrailer(ctx, mdOf(kv...))
		return status.Error(codes.Unavailable, "not now")
	}
}

func TestPushbackOfTheServerIsHonoured(t *testing.T) {
	for name, tt := range map[string]struct {
		hook     testenv.Hook
		deadline time.Duration
		attempts int
		took     time.Duration
		reason   string
	}{
		"wait":                      {advising(drain.PushbackKey, "700"), time.Minute, 3, 1400 * ms, failmode.ReasonUsedUp},
		"longer than the deadline":  {advising(drain.PushbackKey, "700"), 600 * ms, 1, 0, failmode.ReasonNoTime},
		"none":                      {advising(drain.PushbackKey, "-1"), time.Minute, 1, 0, failmode.ReasonDiscouraged},
		"the server has tried":      {advising(drain.NoRetryKey, "1"), time.Minute, 1, 0, failmode.ReasonDiscouraged},
		"not, though it looks like": {advising("retry", "1"), time.Minute, 3, -1, failmode.ReasonUsedUp},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "abc", failmode.Failover)
				w.all(func(*testenv.Server) testenv.Hook { return tt.hook })
				ctx, cancel := context.WithTimeout(t.Context(), tt.deadline)
				defer cancel()
				d := took(func() { w.client.Get(ctx, get) })
				events := w.take()
				if last := events[len(events)-1]; len(events) != tt.attempts || last.Reason != tt.reason || tt.took >= 0 && d != tt.took {
					t.Errorf("%d attempts in %v, %s; want %d in %v, %s", len(events), d, last.Reason, tt.attempts, tt.took, tt.reason)
				}
			})
		})
	}
}

// A stream is advised in the same way.
func TestAdviceAboutAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover)
		w.all(func(*testenv.Server) testenv.Hook { return advising(drain.NoRetryKey, "1") })
		stream, err := w.client.Stream(t.Context(), &echov1.StreamRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), failmode.ReasonDiscouraged) || w.executed() != 1 {
			t.Errorf("%d executions, %v", w.executed(), err)
		}
	})
}

// chain is three hops: a client calls the front, which calls the back, which
// always fails. Its front servers are built with these options.
func chain(t *testing.T, front func(registry.Instance) []grpc.ServerOption) (first, last *world) {
	last = newWorld(t, "xyz", failmode.Failover)
	last.all(func(*testenv.Server) testenv.Hook { return testenv.Answer(codes.Unavailable) })
	first = &world{System: testenv.New(t)}
	for _, inst := range instances("a", "b", "c") {
		s := first.Start(inst, front(inst)...)
		s.OnCall(func(ctx context.Context, _ string) error {
			_, err := last.client.Get(ctx, get)
			return err
		})
		first.servers = append(first.servers, s)
	}
	first.dial(first.intercept(failmode.Failover)...)
	return first, last
}

func withRegistrar(inst registry.Instance) []grpc.ServerOption {
	return registrar.New(nil, inst).ServerOptions()
}

func withoutRegistrar(registry.Instance) []grpc.ServerOption { return nil }

// The hop next to the failure tries again, and no other: attempts do not
// multiply along a chain of services.
func TestAttemptsDoNotMultiplyAlongAChain(t *testing.T) {
	const calls = 2000
	attempts := func(front func(registry.Instance) []grpc.ServerOption) (made int) {
		synctest.Test(t, func(t *testing.T) {
			first, last := chain(t, front)
			for range calls {
				if _, err := first.client.Get(t.Context(), get); status.Code(err) != codes.Unavailable {
					t.Fatalf("error: %v", err)
				}
				time.Sleep(ms)
			}
			made = last.executed()
		})
		return made
	}
	with, without := attempts(withRegistrar), attempts(withoutRegistrar)
	t.Logf("%d calls, attempts at the last hop: %d; without the servers' trailer: %d", calls, with, without)
	if most := calls * 5 / 4; with > most || without <= most {
		t.Errorf("want at most %d, and more without the trailer", most)
	}
}

// A hop that has tried in vain says so to its caller; one that has not tried, or
// whose handler has made do without, says nothing.
func TestWhatAHopTellsItsCaller(t *testing.T) {
	for name, tt := range map[string]struct {
		hook func(last *world) testenv.Hook
		want string
	}{
		"tried in vain": {func(last *world) testenv.Hook {
			return func(ctx context.Context, _ string) error { _, err := last.client.Get(ctx, get); return err }
		}, failmode.ReasonDiscouraged},
		"tried once": {func(last *world) testenv.Hook {
			return func(ctx context.Context, _ string) error {
				_, err := last.client.Get(ctx, get, failmode.WithMode(failmode.Failfast))
				return err
			}
		}, failmode.ReasonUsedUp},
		"made do without": {func(last *world) testenv.Hook {
			return func(ctx context.Context, _ string) error { last.client.Get(ctx, get); return nil }
		}, failmode.ReasonSucceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, last := chain(t, withRegistrar)
				first.all(func(*testenv.Server) testenv.Hook { return tt.hook(last) })
				d := &delivered{}
				first.client.Get(t.Context(), get, d.options()...)
				events := first.take()
				if got := events[len(events)-1].Reason; got != tt.want {
					t.Errorf("%d attempts, %s; want %s", len(events), got, tt.want)
				}
				if told := len(d.trailer[drain.NoRetryKey]) > 0; told != (tt.want == failmode.ReasonDiscouraged) {
					t.Errorf("the trailer is %v", d.trailer)
				}
			})
		})
	}
}

// A stream whose handler has tried in vain tells its caller, too.
func TestStreamOfAHopTellsItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, _ := chain(t, withRegistrar)
		stream, err := first.client.Stream(t.Context(), &echov1.StreamRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err == nil || first.executed() != 1 || len(stream.Trailer()[drain.NoRetryKey]) != 1 {
			t.Errorf("%d executions at the first hop, trailer %v, %v", first.executed(), stream.Trailer(), err)
		}
	})
}
