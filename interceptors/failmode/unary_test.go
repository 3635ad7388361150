package failmode_test

import (
	"context"
	"errors"
	"math"
	"slices"
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
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

var (
	get = &echov1.GetRequest{}
	add = &echov1.AddRequest{Key: "payment", Amount: 1}
)

var unlimited = failmode.WithBudget(math.Inf(1), 0)

func TestFailoverGoesToInstancesThatTheCallHasNotTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover, unlimited)
		for _, id := range []string{"a", "b"} {
			w.server(id).OnCall(testenv.Answer(codes.Unavailable))
		}
		for i := range 300 {
			got, err := w.client.Get(t.Context(), get)
			if err != nil || got.GetInstanceId() != "c" {
				t.Fatalf("call %d: %v, %v", i, got, err)
			}
			ids := targets(w.take())
			if last := ids[len(ids)-1]; last != "c" || len(slices.Compact(slices.Sorted(slices.Values(ids)))) != len(ids) {
				t.Fatalf("call %d went to %v, want different ones and c last", i, ids)
			}
		}
	})
}

func TestModesOnAnIdempotentMethodThatIsUnavailableEverywhere(t *testing.T) {
	for _, tt := range []struct {
		mode              failmode.Mode
		attempts, targets int
	}{{failmode.Failfast, 1, 1}, {failmode.Failretry, 3, 1}, {failmode.Failover, 3, 3}} {
		t.Run(tt.mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "abc", tt.mode)
				w.all(func(*testenv.Server) testenv.Hook { return testenv.Answer(codes.Unavailable) })
				_, err := w.client.Get(t.Context(), get)
				if status.Code(err) != codes.Unavailable {
					t.Errorf("error: %v", err)
				}
				asked := 0
				for _, s := range w.servers {
					if s.Executed() > 0 {
						asked++
					}
				}
				if w.executed() != tt.attempts || asked != tt.targets {
					t.Errorf("%d executions at %d instances, want %d at %d", w.executed(), asked, tt.attempts, tt.targets)
				}
				if id, ok := pinAfter(w, t); ok {
					t.Errorf("still pinned to %s", id)
				}
			})
		})
	}
}

// pinAfter makes a call with a record of the test's own, and returns whether the
// call has left a pin in it.
func pinAfter(w *world, t *testing.T) (string, bool) {
	ctx, record := pick.NewContext(t.Context())
	w.client.Get(ctx, get)
	return record.Pinned()
}

// A pin that the caller has set is the caller's: no mode moves or removes it.
func TestPinOfTheCallerStays(t *testing.T) {
	for _, mode := range []failmode.Mode{failmode.Failfast, failmode.Failretry, failmode.Failover} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "abc", mode)
			w.server("b").OnCall(testenv.Answer(codes.Unavailable))
			ctx, record := pick.NewContext(t.Context())
			record.Pin("b")
			if _, err := w.client.Get(ctx, get); err == nil || w.executed() != w.server("b").Executed() {
				t.Errorf("%v: %v, executed %d times, at b %d", mode, err, w.executed(), w.server("b").Executed())
			}
			if id, _ := record.Pinned(); id != "b" {
				t.Errorf("%v: pinned to %q", mode, id)
			}
		})
	}
}

// kill is a Hook that kills the server while it executes the call.
func kill(s *testenv.Server) testenv.Hook {
	return func(ctx context.Context, method string) error {
		s.Kill()
		return testenv.Hang(ctx, method)
	}
}

func TestServerKilledInsideTheHandler(t *testing.T) {
	for _, mode := range []failmode.Mode{failmode.Failfast, failmode.Failretry, failmode.Failover} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "abc", mode)
				w.all(kill)
				_, err := w.client.Add(t.Context(), add)
				if w.executed() != 1 {
					t.Errorf("executed %d times", w.executed())
				}
				failed, ok := errors.AsType[*failmode.Error](err)
				if !ok || status.Code(err) != codes.Unavailable || !failed.MayHaveExecuted() ||
					!strings.Contains(err.Error(), "may have executed") || failed.Attempts[0].Class != pick.Unanswered {
					t.Errorf("error: %v", err)
				}
			})
		})
	}
}

func TestServerKilledInsideTheHandlerOfAnIdempotentMethod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover)
		w.server("a").OnCall(kill(w.server("a")))
		for range 6 {
			if _, err := w.client.Get(t.Context(), get); err != nil {
				t.Error(err)
			}
		}
		if w.server("a").Executed() != 1 {
			t.Errorf("a executed %d calls, want the one that killed it", w.server("a").Executed())
		}
	})
}

// A handler that relays the refusal of its own downstream, trailers included, has
// executed: that it looks like a closing server's refusal proves nothing.
func TestForgedRefusalIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover)
		w.all(func(*testenv.Server) testenv.Hook {
			return func(ctx context.Context, _ string) error {
				grpc.SetTrailer(ctx, drain.NotExecuted("downstream", "its-life"))
				return drain.Refusal("orders", "downstream", "its-life")
			}
		})
		_, err := w.client.Add(t.Context(), add)
		if w.executed() != 1 || !drain.IsRefusal(err) {
			t.Errorf("executed %d times, %v", w.executed(), err)
		}
		if e := w.take()[0]; e.Class != pick.Answered || e.Reason != failmode.ReasonMayHaveExecuted {
			t.Errorf("%v, %s; want answered, which may have executed", e.Class, e.Reason)
		}
	})
}

func TestProvenRefusalIsRetriedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{System: testenv.New(t)}
		for _, inst := range instances("a", "b") {
			refuse := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				grpc.SetTrailer(ctx, drain.NotExecuted(inst.ID, inst.Life))
				return nil, drain.Refusal("echo", inst.ID, inst.Life)
			}
			w.servers = append(w.servers, w.Start(inst, grpc.UnaryInterceptor(refuse)))
		}
		w.servers = append(w.servers, w.Start(instances("c")[0]))
		w.dial(w.intercept(failmode.Failover)...)
		var refused int
		for i := range 3 {
			if _, err := w.client.Add(t.Context(), add); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			for _, e := range w.take() {
				if e.Class == pick.Refused {
					refused++
				}
			}
		}
		if refused == 0 || w.executed() != 3 || w.server("c").Executed() != 3 {
			t.Errorf("%d refused, %d executed; want some, and 3 at c", refused, w.executed())
		}
	})
}

func TestPerAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Failover, failmode.WithPerAttemptTimeout(100*time.Millisecond))
		release := make(chan struct{})
		defer close(release)
		deaf := func(context.Context, string) error { <-release; return nil } // else it may answer in the very moment
		w.server("a").OnCall(deaf)
		for range 4 {
			began := time.Now()
			if _, err := w.client.Get(t.Context(), get); err != nil {
				t.Error(err)
			}
			if events := w.take(); len(events) > 2 || time.Since(began) != time.Duration(len(events)-1)*100*time.Millisecond {
				t.Errorf("%d attempts in %v", len(events), time.Since(began))
			}
		}
		w.server("b").OnCall(deaf)
		_, err := w.client.Add(t.Context(), add)
		if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "may have executed") || len(w.take()) != 1 {
			t.Errorf("Add: %v, want one attempt that may have executed", err)
		}
	})
}

func TestCallOptionsHoldTheLastAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Failover)
		for _, s := range w.servers {
			s.OnCall(func(ctx context.Context, _ string) error {
				grpc.SetHeader(ctx, mdOf("served-by", s.Instance().ID))
				grpc.SetTrailer(ctx, mdOf("served-by", s.Instance().ID))
				if s.Instance().ID == "a" {
					return status.Error(codes.Unavailable, "not me")
				}
				return nil
			})
		}
		for range 2 {
			d := &delivered{}
			if _, err := w.client.Get(t.Context(), get, d.options()...); err != nil {
				t.Error(err)
			}
			if d.by() != servedBy(w.server("b")) {
				t.Errorf("header, trailer and peer are of %s", d.by())
			}
		}
		w.server("a").Kill()
		w.server("b").OnCall(kill(w.server("b")))
		d := &delivered{}
		if _, err := w.client.Get(t.Context(), get, d.options()...); err == nil {
			t.Error("no error")
		}
		if d.by() != "" {
			t.Errorf("an attempt that opened no stream left header, trailer and peer of %s", d.by())
		}
	})
}
