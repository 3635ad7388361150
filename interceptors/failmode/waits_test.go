package failmode_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

const ms = time.Millisecond

var unavailable = outcome{class: pick.Answered, code: codes.Unavailable}

// took is how long f takes.
func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func TestWaitsBetweenAttempts(t *testing.T) {
	for name, tt := range map[string]struct {
		mode        failmode.Mode
		opts        []failmode.Option
		least, most time.Duration
	}{
		"failover, the second at once":      {failmode.Failover, []failmode.Option{failmode.WithMaxAttempts(2)}, 0, 0},
		"failover, then backoff":            {failmode.Failover, nil, 25 * ms, 50 * ms},
		"failretry, backoff from the first": {failmode.Failretry, nil, 75 * ms, 150 * ms},
		"failretry, longest backoff": {failmode.Failretry, []failmode.Option{
			failmode.WithBackoff(100*ms, 200*ms), failmode.WithMaxAttempts(5)}, 350 * ms, 700 * ms},
		"no backoff": {failmode.Failretry, []failmode.Option{failmode.WithBackoff(0, 0)}, 0, 0},
		"negative":   {failmode.Failretry, []failmode.Option{failmode.WithBackoff(-1, -1)}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{script: []outcome{unavailable}}
				opts := append([]failmode.Option{failmode.Idempotent(true)}, tt.opts...)
				d := took(func() { call(t.Context(), f, failmode.UnaryClientInterceptor(tt.mode, opts...)) })
				if d < tt.least || d > tt.most {
					t.Errorf("%d attempts took %v, want %v to %v", len(f.made), d, tt.least, tt.most)
				}
			})
		})
	}
}

// A call for which nobody was ready does not burn its attempts: each next one
// waits for an instance, for as long as the backoff would have taken.
func TestNeverPickedWaitsForSomebody(t *testing.T) {
	nobody := outcome{class: pick.NeverPicked, code: codes.Unavailable}
	waits := outcome{class: pick.NeverPicked, hang: true}
	for name, tt := range map[string]struct {
		script      []outcome
		made        int
		code        codes.Code
		least, most time.Duration
	}{
		"somebody comes":            {[]outcome{nobody, {class: pick.Answered, takes: 10 * ms}}, 2, codes.OK, 10 * ms, 10 * ms},
		"somebody comes later":      {[]outcome{nobody, waits, {class: pick.Answered}}, 3, codes.OK, 25 * ms, 50 * ms},
		"nobody comes":              {[]outcome{nobody, waits}, 3, codes.Unavailable, 75 * ms, 150 * ms},
		"the balancer ends it":      {[]outcome{nobody, nobody}, 2, codes.Unavailable, 0, 0},
		"a slow one is not hurried": {[]outcome{nobody, {class: pick.Answered, takes: time.Hour}}, 2, codes.OK, time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{script: tt.script}
				var err error
				d := took(func() { err = call(t.Context(), f, failmode.UnaryClientInterceptor(failmode.Failover)) })
				if status.Code(err) != tt.code || len(f.made) != tt.made || f.waiting != tt.made-1 || d < tt.least || d > tt.most {
					t.Errorf("%d attempts, %d of them waiting, in %v: %v", len(f.made), f.waiting, d, err)
				}
			})
		})
	}
}

// What was decided about one attempt does not hold for the one after it: here the
// third neither waits for somebody to be ready nor is cut off while it does.
func TestAWaitIsForOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nobody := outcome{class: pick.NeverPicked, code: codes.Unavailable}
		f := &fake{script: []outcome{nobody, unavailable, {class: pick.NeverPicked, code: codes.Unavailable, takes: time.Minute}}}
		d := took(func() {
			call(t.Context(), f, failmode.UnaryClientInterceptor(failmode.Failover, failmode.Idempotent(true)))
		})
		if len(f.made) != 3 || f.waiting != 1 || d < time.Minute {
			t.Errorf("%d attempts, %d of them waiting, in %v; want 3, 1 and more than a minute", len(f.made), f.waiting, d)
		}
	})
}

// Without a backoff nothing bounds a wait for somebody, so there is none.
func TestNeverPickedWithoutBackoffDoesNotWait(t *testing.T) {
	f := &fake{script: []outcome{{class: pick.NeverPicked, code: codes.Unavailable}}}
	err := call(t.Context(), f, failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithBackoff(0, 0)))
	if status.Code(err) != codes.Unavailable || f.waiting != 0 {
		t.Errorf("%d of %d attempts wait for somebody, %v", f.waiting, len(f.made), err)
	}
}

func TestFailretryWaitsForItsInstanceAsLongAsTheLongestBackoff(t *testing.T) {
	for name, tt := range map[string]struct {
		base, longest, want time.Duration
	}{
		"longest": {0, 300 * ms, 300 * ms},
		"base":    {200 * ms, 0, 200 * ms},
		"none":    {0, 0, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{script: []outcome{unavailable, {class: pick.NeverPicked, hang: true}}}
				var last failmode.AttemptEvent
				call(t.Context(), f, failmode.UnaryClientInterceptor(failmode.Failretry, failmode.Idempotent(true), failmode.WithMaxAttempts(2),
					failmode.WithBackoff(tt.base, tt.longest), failmode.WithObserver(func(e failmode.AttemptEvent) { last = e })))
				if last.Attempt != 2 || last.Duration != tt.want {
					t.Errorf("attempt %d waited %v for its instance, want %v: %v", last.Attempt, last.Duration, tt.want, last.Err)
				}
			})
		})
	}
}

func TestDeadlineAndCancelEndEverything(t *testing.T) {
	for name, tt := range map[string]struct {
		script []outcome
		end    func(context.Context) (context.Context, context.CancelFunc)
		code   codes.Code
		reason string
		made   int
		after  time.Duration
	}{
		"no time for the wait": {[]outcome{unavailable}, within(10 * ms), codes.Unavailable, failmode.ReasonNoTime, 1, 0},
		"deadline in the last attempt": {[]outcome{unavailable, {class: pick.Unanswered, hang: true}},
			within(time.Second), codes.DeadlineExceeded, failmode.ReasonCallerEnded, 3, time.Second},
		"deadline while nobody is ready": {[]outcome{{class: pick.NeverPicked, code: codes.Unavailable}, {class: pick.NeverPicked, hang: true}},
			within(10 * ms), codes.DeadlineExceeded, failmode.ReasonCallerEnded, 3, 10 * ms},
		"cancelled in a wait": {[]outcome{unavailable}, cancelled(10 * ms), codes.Canceled, failmode.ReasonCallerEnded, 1, 10 * ms},
		"cancelled in an attempt": {[]outcome{{class: pick.Unanswered, hang: true}},
			cancelled(10 * ms), codes.Canceled, failmode.ReasonCallerEnded, 1, 10 * ms},
		"ended before it began": {[]outcome{{class: pick.NeverPicked, hang: true}}, within(0), codes.DeadlineExceeded, "", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := tt.end(t.Context())
				defer cancel()
				f := &fake{script: tt.script}
				var err error
				d := took(func() {
					err = call(ctx, f, failmode.UnaryClientInterceptor(failmode.Failretry, failmode.Idempotent(true)))
				})
				if status.Code(err) != tt.code || len(f.made) != tt.made || d != tt.after {
					t.Errorf("%d attempts in %v: %v; want %d in %v, %v", len(f.made), d, err, tt.made, tt.after, tt.code)
				}
				if failed, ok := errors.AsType[*failmode.Error](err); ok != (tt.reason != "") || ok && failed.Reason != tt.reason {
					t.Errorf("error: %v; want because %q", err, tt.reason)
				}
			})
		})
	}
}

func within(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
	return func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, d) }
}

func cancelled(after time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
	return func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(after, cancel)
		return ctx, cancel
	}
}

// fast makes gRPC reconnect soon, as one does where servers come back soon.
var fast = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff: backoff.Config{BaseDelay: 5 * ms, Multiplier: 1, MaxDelay: 5 * ms}, MinConnectTimeout: time.Minute,
})

func TestFailretryWaitsForItsInstanceToReconnect(t *testing.T) {
	for name, tt := range map[string]struct {
		dial time.Duration
		code codes.Code
		text string
	}{
		"soon":     {300 * ms, codes.OK, ""},
		"too late": {time.Hour, codes.Unavailable, "pinned instance a is still connecting after 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "a", failmode.Failretry)
				w.dial(append(w.intercept(failmode.Failretry), grpc.WithContextDialer(slowly(w, tt.dial)))...)
				w.server("a").OnCall(func(ctx context.Context, method string) error {
					w.server("a").OnCall(nil)
					w.Network.Cut(w.server("a").Addr)
					<-ctx.Done()
					return ctx.Err()
				})
				_, err := w.client.Get(t.Context(), get)
				if status.Code(err) != tt.code {
					t.Errorf("error: %v", err)
				}
				events := w.take()
				if tt.text == "" {
					if ids := targets(events); !slices.Equal(ids, []string{"a", "a"}) {
						t.Errorf("attempts at %v", ids)
					}
					return
				}
				if last := events[len(events)-1]; len(events) != 3 || last.Class != pick.NeverPicked || !strings.Contains(last.Err.Error(), tt.text) {
					t.Errorf("%d attempts, the last: %v, %v", len(events), last.Class, last.Err)
				}
				if !strings.Contains(err.Error(), "sent_no_answer") {
					t.Errorf("the error does not tell what happened before: %v", err)
				}
			})
		})
	}
}

// slowly dials at once the first time, and then takes d.
func slowly(w *world, d time.Duration) func(context.Context, string) (net.Conn, error) {
	first := true
	return func(ctx context.Context, addr string) (net.Conn, error) {
		if !first {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		first = false
		return w.Network.Dial(ctx, addr)
	}
}

func TestFailretryStopsWhenItsInstanceIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failretry)
		w.all(kill)
		_, err := w.client.Get(t.Context(), get)
		failed, ok := errors.AsType[*failmode.Error](err)
		if !ok || len(failed.Attempts) != 2 || failed.Reason != failmode.ReasonPinGone || w.executed() != 1 {
			t.Fatalf("%d executions, %v", w.executed(), err)
		}
		if first := failed.Attempts[0]; !errors.Is(err, first.Err) || !strings.Contains(err.Error(), status.Convert(first.Err).Message()) {
			t.Errorf("error: %v; want that of the attempt that reached the instance", err)
		}
	})
}

func TestNobodyReadyUntilAServerComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", failmode.Failover)
		w.dial(append(w.intercept(failmode.Failover), fast)...)
		w.server("a").Kill()
		time.Sleep(time.Second)
		restarted := make(chan *testenv.Server, 1)
		time.AfterFunc(20*ms, func() { restarted <- w.server("a").Restart() })
		_, err := w.client.Add(t.Context(), add)
		if events := w.take(); err != nil || events[0].Class != pick.NeverPicked || (<-restarted).Total("payment") != 1 {
			t.Errorf("%v, %v", err, events)
		}
	})
}

// A call that fails while everything is still being connected says what that is.
func TestBlackHolesAreNamed(t *testing.T) {
	hole := func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	for name, do := range map[string]func(context.Context, *world) error{
		"unary": func(ctx context.Context, w *world) error { _, err := w.client.Get(ctx, get); return err },
		"stream": func(ctx context.Context, w *world) error {
			stream, err := w.client.Stream(ctx, &echov1.StreamRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "a", failmode.Failover)
				w.dial(append(w.intercept(failmode.Failover), grpc.WithContextDialer(hole))...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := do(ctx, w)
				want := "waiting for any of the 1 known instances: a (" + w.server("a").Addr + "): connecting"
				if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), want) {
					t.Errorf("error: %v; want DeadlineExceeded and %q", err, want)
				}
				if e := w.take(); len(e) != 1 || e[0].Class != pick.NeverPicked {
					t.Errorf("attempts: %+v, want one for which nobody was picked", e)
				}
			})
		})
	}
}

// An attempt ends as its error says, also when its own time runs out in that moment:
// only where the error says that the time is over is that what ended it, whoever
// has noticed first.
func TestAnswerAtTheEndOfTheAttemptsTime(t *testing.T) {
	for code, want := range map[codes.Code]int{codes.NotFound: 1, codes.OK: 1, codes.DeadlineExceeded: 3} {
		for name, late := range map[string]time.Duration{"before": 0, "after": ms} {
			synctest.Test(t, func(t *testing.T) {
				made := 0
				invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					made++
					time.Sleep(100*ms + late)
					record, err := pick.FromContext(ctx), status.Error(code, "at the last moment")
					record.End(record.Begin(&pick.Target{ID: "a"}), pick.Answered, err)
					return err
				}
				failover := failmode.UnaryClientInterceptor(failmode.Failover, failmode.Idempotent(true), failmode.WithPerAttemptTimeout(100*ms))
				if err := failover(t.Context(), "/shop.Orders/Get", nil, nil, nil, invoker); made != want || status.Code(err) != code {
					t.Errorf("%v, noticed %s the end: %d attempts, %v; want %d", code, name, made, err, want)
				}
			})
		}
	}
}
