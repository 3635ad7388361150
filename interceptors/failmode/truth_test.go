package failmode_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// kind is a method of one of the kinds there are.
type kind struct {
	method     string
	idempotent bool
	keyed      func(key string) proto.Message // the request
	reply      func() proto.Message
}

var kinds = []kind{
	{echov1.Echo_Get_FullMethodName, true, // NO_SIDE_EFFECTS
		func(key string) proto.Message { return &echov1.GetRequest{Key: key} }, func() proto.Message { return new(echov1.GetResponse) }},
	{echov1.Echo_Put_FullMethodName, true, // IDEMPOTENT
		func(key string) proto.Message { return &echov1.PutRequest{Key: key} }, func() proto.Message { return new(echov1.PutResponse) }},
	{echov1.Echo_Add_FullMethodName, false,
		func(key string) proto.Message { return &echov1.AddRequest{Key: key, Amount: 1} }, func() proto.Message { return new(echov1.AddResponse) }},
}

// way is how the first attempt of a call comes to its end, with real servers, while
// those after it go well.
type way struct {
	class    pick.Class
	code     string // as in RULES.md
	executed int    // by that attempt
	set      func(*testing.T, *world, []grpc.DialOption)
}

const worthIt = "Unavailable, own timeout"

var ways = map[string]way{
	"no connection": {pick.NeverPicked, worthIt, 0, func(_ *testing.T, w *world, opts []grpc.DialOption) {
		w.dial(append(opts, fast)...)
		for _, s := range w.servers {
			s.Kill()
		}
		time.Sleep(time.Second)
		time.AfterFunc(10*ms, func() { w.servers[1] = w.servers[1].Restart() })
	}},
	"no credentials yet": {pick.NotSent, worthIt, 0, func(_ *testing.T, w *world, opts []grpc.DialOption) {
		w.dial(append(opts, grpc.WithPerRPCCredentials(&lateCredentials{}))...)
	}},
	"refused": {pick.Refused, worthIt, 0, func(_ *testing.T, w *world, opts []grpc.DialOption) {
		w.servers = nil
		var once sync.Once
		for _, inst := range instances("a", "b", "c") {
			refuse := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
				once.Do(func() { err = refuse(ctx, inst) })
				if err != nil {
					return nil, err
				}
				return handler(ctx, req)
			}
			w.servers = append(w.servers, w.Start(inst, grpc.UnaryInterceptor(refuse)))
		}
		w.dial(opts...)
	}},
	"connection cut": {pick.Unanswered, worthIt, 1, func(_ *testing.T, w *world, opts []grpc.DialOption) {
		w.dial(append(opts, fast)...)
		w.once(func(ctx context.Context, s *testenv.Server) error {
			w.Network.Cut(s.Addr)
			return testenv.Hang(ctx, "")
		})
	}},
	"no answer in time": {pick.Unanswered, worthIt, 1, func(_ *testing.T, w *world, opts []grpc.DialOption) {
		w.dial(opts...)
		w.once(func(context.Context, *testenv.Server) error {
			time.Sleep(2 * time.Second)
			return nil
		})
	}},
	"Unavailable": {pick.Answered, worthIt, 1, func(_ *testing.T, w *world, opts []grpc.DialOption) {
		w.dial(opts...)
		w.once(func(context.Context, *testenv.Server) error { return status.Error(codes.Unavailable, "not now") })
	}},
	"another server's refusal": {pick.Answered, worthIt, 1, func(t *testing.T, w *world, opts []grpc.DialOption) {
		w.dial(opts...)
		downstream := refusing(t)
		w.once(func(ctx context.Context, _ *testenv.Server) error {
			var trailer metadata.MD
			_, err := downstream.Get(ctx, get, grpc.Trailer(&trailer))
			grpc.SetTrailer(ctx, trailer)
			return err
		})
	}},
	"no such order": {pick.Answered, "any other", 1, func(_ *testing.T, w *world, opts []grpc.DialOption) {
		w.dial(opts...)
		w.once(func(context.Context, *testenv.Server) error { return status.Error(codes.NotFound, "no such order") })
	}},
	"another policy": {pick.Untracked, worthIt, 1, func(_ *testing.T, w *world, opts []grpc.DialOption) {
		w.dial(append(opts, grpc.WithDefaultServiceConfig(stockPolicy))...)
		w.once(func(context.Context, *testenv.Server) error { return status.Error(codes.Unavailable, "not now") })
	}},
}

// lateCredentials are not to be had the first time.
type lateCredentials struct {
	badCredentials
	asked sync.Once
}

func (c *lateCredentials) GetRequestMetadata(context.Context, ...string) (_ map[string]string, err error) {
	c.asked.Do(func() { err = status.Error(codes.Unavailable, "no token yet") })
	return nil, err
}

// once has the handler of the first call do this, wherever it is made.
func (w *world) once(do func(context.Context, *testenv.Server) error) {
	var called atomic.Bool
	w.all(func(s *testenv.Server) testenv.Hook {
		return func(ctx context.Context, _ string) error {
			if called.Swap(true) {
				return nil
			}
			return do(ctx, s)
		}
	})
}

// refuse is what a closing server does with a call.
func refuse(ctx context.Context, inst registry.Instance) error {
	grpc.SetTrailer(ctx, drain.NotExecuted(inst.ID, inst.Life))
	return drain.Refusal("echo", inst.ID, inst.Life)
}

// refusing is a client of a server that refuses everything.
func refusing(t *testing.T) echov1.EchoClient {
	w := &world{System: testenv.New(t)}
	inst := instances("downstream")[0]
	w.servers = append(w.servers, w.Start(inst, grpc.UnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		return nil, refuse(ctx, inst)
	})))
	w.dial(w.intercept(failmode.Failfast)...)
	return w.client
}

// Every cell of the table in RULES.md, with each kind of method, with real servers
// that count what they execute.
func TestEveryRuleHoldsWithRealServers(t *testing.T) {
	tried := map[string]bool{}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			for _, r := range rules(t) {
				if r.class != way.class.String() && r.class != "any" || r.code != way.code {
					continue
				}
				tried[r.class+r.code] = true
				for _, k := range kinds {
					if k.idempotent == r.idempotent {
						synctest.Test(t, func(t *testing.T) { tryWay(t, way, r, k) })
					}
				}
			}
		})
	}
	for _, r := range rules(t) {
		if !tried[r.class+r.code] {
			t.Errorf("no way leads to %s with %s", r.class, r.code)
		}
	}
}

func tryWay(t *testing.T, way way, r rule, k kind) {
	w := newWorld(t, "abc", r.mode)
	way.set(t, w, w.intercept(r.mode, failmode.WithPerAttemptTimeout(time.Second), failmode.WithLogger(slog.New(slog.DiscardHandler))))
	reply := k.reply()
	err := w.conn.Invoke(t.Context(), k.method, k.keyed("key"), reply)
	time.Sleep(2 * time.Second) // the handlers that were given up end as well
	events, executed := w.take(), way.executed
	switch r.then {
	case "not made":
		if executed = 0; len(events) > 0 || status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%v, %s: %d attempts, %v", r.mode, k.method, len(events), err)
		}
	case "error":
		if r.mode != failmode.Broadcast && (len(events) != 1 || err == nil) {
			t.Errorf("%v, %s: %d attempts, %v", r.mode, k.method, len(events), err)
		}
	case "hidden":
		if len(events) != 1 || err != nil || proto.Size(reply) > 0 {
			t.Errorf("%v, %s: %d attempts, %v, reply %v", r.mode, k.method, len(events), err, reply)
		}
	default:
		executed++
		if len(events) < 2 || r.mode != failmode.Broadcast && (len(events) != 2 || err != nil || proto.Size(reply) == 0) {
			t.Fatalf("%v, %s: %d attempts, %v, reply %v", r.mode, k.method, len(events), err, reply)
		}
		if same := events[0].Target.ID == events[1].Target.ID; r.then == "same" && !same || r.then == "other" && same {
			t.Errorf("%v, %s: went to %v", r.mode, k.method, targets(events))
		}
	}
	if r.mode == failmode.Broadcast && r.then != "not made" {
		executed += w.broadcast(t, way.class, way.code, err)
	}
	if len(events) > 0 && events[0].Class != way.class {
		t.Errorf("%v, %s: the first attempt was %v", r.mode, k.method, events[0].Class)
	}
	if w.executed() != executed {
		t.Errorf("%v, %s: executed %d times, want %d: %v", r.mode, k.method, w.executed(), executed, err)
	}
}

// broadcast is how often a call in that mode is executed besides its first instance,
// once the first attempt there has ended in this class.
func (w *world) broadcast(t *testing.T, class pick.Class, code string, err error) int {
	wrong := err != nil
	elsewhere := 2
	switch {
	case class == pick.NeverPicked: // the others are still down
		wrong, elsewhere = err == nil, 0
	case class == pick.Untracked: // nobody says who the others are
		wrong, elsewhere = err == nil, 0
	case code != worthIt:
		wrong = err == nil
	}
	if wrong {
		t.Errorf("broadcast: %v", err)
	}
	return elsewhere
}

// A call that every instance refuses does not wait for its deadline, and says of each
// how it did so.
func TestRefusedEverywhere(t *testing.T) {
	for name, tt := range map[string]struct {
		set  func(*world)
		most time.Duration
		want string // of each instance
	}{
		"closing": {func(w *world) {
			w.servers = nil
			for _, inst := range instances("a", "b", "c") {
				w.servers = append(w.servers, w.Start(inst, grpc.UnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
					return nil, refuse(ctx, inst)
				})))
			}
			w.dial(w.intercept(failmode.Failover)...)
		}, 50 * ms, "%s Unavailable refused"},
		"Unavailable": {func(w *world) {
			w.all(func(*testenv.Server) testenv.Hook { return testenv.Answer(codes.Unavailable) })
		}, 50 * ms, "%s Unavailable answered"},
		"connection refused": {func(w *world) {
			for _, s := range w.servers {
				s.Kill()
			}
			time.Sleep(time.Second)
		}, 150 * ms, "%s (10.0.0."},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "abc", failmode.Failover)
				tt.set(w)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				var err error
				if d := took(func() { _, err = w.client.Get(ctx, get) }); status.Code(err) != codes.Unavailable || d > tt.most {
					t.Errorf("%v after %v", err, d)
				}
				for _, id := range []string{"a", "b", "c"} {
					if want := fmt.Sprintf(tt.want, id); !strings.Contains(err.Error(), want) {
						t.Errorf("error: %v\nwithout %q", err, want)
					}
				}
			})
		})
	}
}
