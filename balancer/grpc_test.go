package balancer_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// system is real gRPC, over connections in memory, whose resolver says what the
// test wants.
type system struct {
	t *testing.T
	*testenv.System
	resolver *manual.Resolver
	conn     *grpc.ClientConn
	echov1.EchoClient
}

// inBubble runs test with a client that has this service config.
func inBubble(t *testing.T, serviceConfig string, test func(t *testing.T, s *system), opts ...grpc.DialOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &system{t: t, System: testenv.New(t), resolver: manual.NewBuilderWithScheme("test")}
		s.conn = s.Dial("test:///echo", append([]grpc.DialOption{
			grpc.WithResolvers(s.resolver),
			grpc.WithDefaultServiceConfig(serviceConfig),
		}, opts...)...)
		s.EchoClient = echov1.NewEchoClient(s.conn)
		s.conn.Connect()
		synctest.Wait()
		test(t, s)
	})
}

// resolve makes these instances known, with the picker if it is not nil, and
// waits until they are connected, or have failed to.
func (s *system) resolve(p balancer.Picker, insts ...registry.Instance) {
	var state gresolver.State
	for _, inst := range insts {
		var ep gresolver.Endpoint
		for _, addr := range inst.Addrs {
			ep.Addresses = append(ep.Addresses, gresolver.Address{Addr: addr})
		}
		state.Endpoints = append(state.Endpoints, endpoint.Set(ep, inst))
	}
	if p != nil {
		state.ServiceConfig = s.resolver.CC().ParseServiceConfig(balancer.ServiceConfig(p))
	}
	s.resolver.UpdateState(state)
	time.Sleep(10 * time.Millisecond)
	synctest.Wait()
}

func (s *system) wantShares(n int, want map[string]int) {
	s.t.Helper()
	if got := testenv.Shares(s.t, s.conn, n); !maps.Equal(got, want) {
		s.t.Errorf("shares %v, want %v", got, want)
	}
}

// wantError checks a call that is not to wait longer than a second.
func (s *system) wantError(code codes.Code, parts []string, opts ...grpc.CallOption) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	_, err := s.Get(ctx, &echov1.GetRequest{}, opts...)
	if status.Code(err) != code {
		s.t.Errorf("%v, want code %v", err, code)
	}
	for _, part := range parts {
		if !strings.Contains(status.Convert(err).Message(), part) {
			s.t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestWeightsAndPickersChangeWithoutReconnecting(t *testing.T) {
	inBubble(t, balancer.ServiceConfig(nil), func(t *testing.T, s *system) {
		a, b, c := s.Start(registry.Instance{ID: "a", Weight: 5}), s.Start(registry.Instance{ID: "b", Weight: 3}), s.Start(registry.Instance{ID: "c", Weight: 2})
		all := func() []registry.Instance { return []registry.Instance{a.Instance(), b.Instance(), c.Instance()} }
		s.resolve(nil, all()...)
		s.wantShares(100, map[string]int{"a": 50, "b": 30, "c": 20})
		a.Update(func(i *registry.Instance) { i.Weight = 15 })
		s.resolve(nil, all()...)
		s.wantShares(100, map[string]int{"a": 75, "b": 15, "c": 10})
		s.resolve(balancer.RoundRobin{}, all()...)
		s.wantShares(99, map[string]int{"a": 33, "b": 33, "c": 33})
		s.resolve(balancer.Random{}, all()...)
		if got := testenv.Shares(t, s.conn, 1000); got["a"] < 680 || got["a"] > 820 || len(got) != 3 {
			t.Errorf("random: shares %v", got)
		}
		b.Update(func(i *registry.Instance) { i.Status = registry.Draining })
		s.resolve(balancer.RoundRobin{}, all()...)
		s.wantShares(10, map[string]int{"a": 5, "c": 5})
		for _, server := range []*testenv.Server{a, b, c} {
			if got := s.Network.Dials(server.Addr); got != 1 {
				t.Errorf("connected %d times to %s, want once", got, server.Instance().ID)
			}
		}
	})
}

func TestErrorsOfCallsSayWhatIsMissing(t *testing.T) {
	inBubble(t, balancer.ServiceConfig(nil), func(t *testing.T, s *system) {
		s.resolver.CC().ReportError(errors.New("no registry node answers"))
		s.wantError(codes.Unavailable, []string{"no registry node answers"})
		s.wantError(codes.DeadlineExceeded, []string{"no registry node answers"}, grpc.WaitForReady(true))

		s.resolver.CC().UpdateState(endpoint.SetReason(gresolver.State{Endpoints: []gresolver.Endpoint{}}, "service echo is unknown"))
		s.wantError(codes.Unavailable, []string{"rollcall: no instance to call: service echo is unknown"})
		s.wantError(codes.DeadlineExceeded, []string{"service echo is unknown"}, grpc.WaitForReady(true))

		dead := registry.Instance{ID: "a", Addrs: []string{"10.9.9.9:9000"}}
		s.resolve(nil, dead)
		why := []string{"rollcall: none of the 1 known instances can be connected: a (10.9.9.9:9000): ", "connection refused"}
		s.wantError(codes.Unavailable, why)
		s.wantError(codes.DeadlineExceeded, why, grpc.WaitForReady(true))

		done := make(chan error)
		go func() {
			_, err := s.Get(t.Context(), &echov1.GetRequest{}, grpc.WaitForReady(true))
			done <- err
		}()
		synctest.Wait()
		s.resolve(nil, s.Start(registry.Instance{ID: "a"}).Instance())
		if err := <-done; err != nil {
			t.Errorf("the call that waited: %v", err)
		}
	})
}

// From the moment at which gRPC knows that a connection is broken no call is given
// to it, and none waits for the next change. Calls between the break and that
// moment may be lost: only a retry mends that.
func TestKilledServerIsNotPicked(t *testing.T) {
	inBubble(t, balancer.ServiceConfig(balancer.RoundRobin{}), func(t *testing.T, s *system) {
		a, b := s.Start(registry.Instance{ID: "a"}), s.Start(registry.Instance{ID: "b"})
		s.resolve(nil, a.Instance(), b.Instance())
		s.wantShares(10, map[string]int{"a": 5, "b": 5})
		a.Kill()
		synctest.Wait()
		begin := time.Now()
		s.wantShares(10, map[string]int{"b": 10})
		if took := time.Since(begin); took > 0 {
			t.Errorf("calls after the kill took %v", took)
		}
		a = a.Restart()
		s.resolve(nil, a.Instance(), b.Instance())
		s.wantShares(10, map[string]int{"a": 5, "b": 5})
	})
}

const retryPolicy = `{"methodConfig": [{"name": [{}], "retryPolicy": {
	"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1,
	"retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// gRPC's own retries go to another instance each, if the call has a record.
func TestRetryPolicySkipsInstancesTried(t *testing.T) {
	for _, p := range []balancer.Picker{balancer.Random{}, balancer.RoundRobin{}, balancer.WeightedRoundRobin{}, balancer.P2C{}, balancer.LeastRequest{}} {
		inBubble(t, balancer.ServiceConfig(p, balancer.WithBase(retryPolicy)), func(t *testing.T, s *system) {
			good, bad1, bad2 := s.Start(registry.Instance{ID: "good"}), s.Start(registry.Instance{ID: "bad1", Weight: 9}), s.Start(registry.Instance{ID: "bad2", Weight: 9})
			bad1.OnCall(testenv.Answer(codes.Unavailable))
			bad2.OnCall(testenv.Answer(codes.Unavailable))
			s.resolve(nil, good.Instance(), bad1.Instance(), bad2.Instance())
			const calls = 300
			for range calls {
				ctx, rec := pick.NewContext(t.Context())
				if _, err := s.Get(ctx, &echov1.GetRequest{}); err != nil {
					t.Fatalf("%T: %v after %+v", p, err, rec.Attempts())
				}
			}
			if n := bad1.Executed() + bad2.Executed(); good.Executed() != calls || n > 2*calls {
				t.Errorf("%T: %d calls, %d at the good server and %d at the bad ones", p, calls, good.Executed(), n)
			}
		})
	}
}

func TestClassesOfRealCalls(t *testing.T) {
	inBubble(t, balancer.ServiceConfig(balancer.RoundRobin{}), func(t *testing.T, s *system) {
		a := s.Start(registry.Instance{ID: "a"})
		call := func() (pick.Class, []pick.Attempt) {
			ctx, rec := pick.NewContext(t.Context())
			s.Add(ctx, &echov1.AddRequest{Key: "k", Amount: 1})
			attempts, class := rec.Since(pick.Mark{})
			return class, attempts
		}
		s.resolve(nil, a.Instance())
		class, attempts := call()
		if want := (pick.Target{ID: "a", Life: a.Instance().Life, Addr: a.Addr}); class != pick.Answered || attempts[0].Target != want || attempts[0].Err != nil {
			t.Errorf("success: %v, %+v", class, attempts)
		}
		a.OnCall(testenv.Answer(codes.Unavailable))
		if class, attempts := call(); class != pick.Answered || status.Code(attempts[0].Err) != codes.Unavailable {
			t.Errorf("the handler's Unavailable: %v, %+v", class, attempts)
		}
		a.OnCall(func(ctx context.Context, method string) error {
			a.Kill()
			return testenv.Hang(ctx, method)
		})
		if class, attempts := call(); class != pick.Unanswered {
			t.Errorf("killed inside the handler: %v, %+v", class, attempts)
		}
		synctest.Wait()
		if class, attempts := call(); class != pick.NeverPicked {
			t.Errorf("connection refused: %v, %+v", class, attempts)
		}
	})
}

// What gRPC does to a channel without calls for half an hour.
func TestIdleChannelWakesUp(t *testing.T) {
	inBubble(t, balancer.ServiceConfig(nil), func(t *testing.T, s *system) {
		a := s.Start(registry.Instance{ID: "a"})
		state := gresolver.State{Endpoints: []gresolver.Endpoint{
			endpoint.Set(gresolver.Endpoint{Addresses: []gresolver.Address{{Addr: a.Addr}}}, a.Instance()),
		}}
		s.resolver.InitialState(state)
		s.resolver.UpdateState(state)
		s.wantShares(1, map[string]int{"a": 1})
		time.Sleep(31 * time.Minute)
		s.wantShares(1, map[string]int{"a": 1})
		if got := s.Network.Dials(a.Addr); got != 2 {
			t.Errorf("connected %d times, want that gRPC closed the idle connection", got)
		}
	})
}

// Calls in hand on an instance that is gone from the list are finished.
func TestCallsInHandOutliveTheInstance(t *testing.T) {
	inBubble(t, balancer.ServiceConfig(nil), func(t *testing.T, s *system) {
		a, b := s.Start(registry.Instance{ID: "a"}), s.Start(registry.Instance{ID: "b"})
		a.OnCall(testenv.Delay(time.Minute))
		s.resolve(nil, a.Instance())
		done := make(chan error)
		go func() {
			_, err := s.Get(t.Context(), &echov1.GetRequest{})
			done <- err
		}()
		synctest.Wait()
		s.resolve(nil, b.Instance())
		s.wantShares(3, map[string]int{"b": 3})
		if err := <-done; err != nil {
			t.Errorf("the call in hand: %v", err)
		}
	})
}
