package system

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/resolver"
)

// An operator changes picker and method configuration while calls run: both take
// effect with the next call, no call fails, nobody is connected to again, and who
// has just been served waits for the others.
func TestServiceConfigChangesUnderCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		var servers []*testenv.Server
		for _, id := range []string{"a", "b", "c", "d"} {
			servers = append(servers, sys.Start(registry.Instance{ID: id}))
		}
		var config resolver.ServiceConfig
		set := func(p balancer.Picker, timeout string) {
			t.Helper()
			methods := `{"methodConfig":[{"name":[{"service":"rollcall.echo.v1.Echo","method":"Stream"}],"timeout":"` + timeout + `"}]}`
			if err := config.Set(balancer.ServiceConfig(p, balancer.WithBase(methods))); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		set(balancer.RoundRobin{}, "1s")
		conn := sys.Dial(target, grpc.WithResolvers(resolver.NewBuilder(sys.Registry, resolver.WithServiceConfig(&config))))
		conn.Connect()
		time.Sleep(time.Second)

		for i := range 100 {
			set(balancer.WeightedRoundRobin{}, "1s")
			served := testenv.Shares(t, conn, 2)
			set(balancer.RoundRobin{}, "1s")
			for id := range testenv.Shares(t, conn, 2) {
				served[id]++
			}
			if len(served) != 4 {
				t.Fatalf("turn %d: four calls went to %v, want one to each", i, served)
			}
		}

		calls := startLoad(t, conn, 100, get)
		for range 3 {
			for timeout, p := range map[string]balancer.Picker{"1s": balancer.Random{}, "2s": balancer.WeightedRoundRobin{}, "3s": balancer.RoundRobin{}} {
				set(p, timeout)
				want, _ := time.ParseDuration(timeout)
				if got, code := streamed(conn); got != want || code != codes.DeadlineExceeded {
					t.Errorf("an endless call ended after %v with %v, want %v and a deadline", got, code, want)
				}
			}
		}
		calls.endWithoutFailure("a", "b", "c", "d")
		for _, s := range servers {
			if n := sys.Network.Dials(s.Addr); n != 1 {
				t.Errorf("%s was connected to %d times", s.Instance().ID, n)
			}
		}
	})
}

// A feature is switched on and off while calls run, over the connections there are.
// One that is out of range is refused with the rule.
func TestEjectionIsSwitchedUnderCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		sys.Start(registry.Instance{ID: "a"})
		sys.Start(registry.Instance{ID: "b"})
		failing := sys.Start(registry.Instance{ID: "c"})
		failing.OnCall(testenv.Answer(codes.Unavailable))
		var config resolver.ServiceConfig
		conn := sys.Dial(target, grpc.WithResolvers(resolver.NewBuilder(sys.Registry, resolver.WithServiceConfig(&config))),
			grpc.WithDefaultServiceConfig(balancer.ServiceConfig(nil)))
		conn.Connect()
		time.Sleep(time.Second)
		calls := startLoad(t, conn, 100, get)
		defer calls.end()
		with := func(e balancer.Ejection) string { return balancer.ServiceConfig(nil, balancer.WithEjection(e)) }
		for _, step := range []struct {
			what, config, refusal string
			least, most           int // calls of 1,000 that the failing instance gets
		}{
			{"off", balancer.ServiceConfig(nil), "", 330, 337},
			{"on", with(balancer.Ejection{}), "", 1, 20},
			{"out of range", with(balancer.Ejection{MinHealthy: 2}), `"minHealthy" must be more than 0 and at most 1`, 1, 20},
			{"off again", balancer.ServiceConfig(nil), "", 330, 337},
		} {
			if err := config.Set(step.config); (err != nil) != (step.refusal != "") || err != nil && !strings.Contains(err.Error(), step.refusal) {
				t.Errorf("%s: %v, want %q", step.what, err, step.refusal)
			}
			before := failing.Executed()
			time.Sleep(10 * time.Second)
			if got := failing.Executed() - before; got < step.least || got > step.most {
				t.Errorf("%s: the failing instance had %d of 1,000 calls, want %d to %d", step.what, got, step.least, step.most)
			}
		}
		if got := sys.Network.Dials(failing.Addr); got != 1 {
			t.Errorf("it was connected to %d times", got)
		}
	})
}

// streamed makes a call that has no end of its own.
func streamed(conn *grpc.ClientConn) (took time.Duration, code codes.Code) {
	begin := time.Now()
	stream, err := echov1.NewEchoClient(conn).Stream(context.Background(), &echov1.StreamRequest{Count: 1000, IntervalMs: 1000})
	for err == nil {
		_, err = stream.Recv()
	}
	return time.Since(begin), status.Code(err)
}
