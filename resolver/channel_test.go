package resolver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// policy is the dial option that selects a policy by name.
func policy(name string) grpc.DialOption {
	return grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, name))
}

// get calls, for at most timeout if that is not 0, and says who answered after
// how long, or why nobody did.
func get(t *testing.T, conn *grpc.ClientConn, timeout time.Duration, opts ...grpc.CallOption) (who string, took time.Duration, err error) {
	t.Helper()
	ctx := t.Context()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	begin := time.Now()
	reply, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.GetRequest{}, opts...)
	return reply.GetInstanceId(), time.Since(begin), err
}

// expectFailure makes a call and checks that it fails after just that time,
// with that code and text.
func expectFailure(t *testing.T, conn *grpc.ClientConn, timeout, after time.Duration, code codes.Code, text string, opts ...grpc.CallOption) {
	t.Helper()
	_, took, err := get(t, conn, timeout, opts...)
	if status.Code(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("the call failed with %v, want %v with %q", err, code, text)
	}
	if took != after {
		t.Errorf("the call took %v, want %v", took, after)
	}
}

func expectCall(t *testing.T, conn *grpc.ClientConn, opts ...grpc.CallOption) {
	t.Helper()
	if _, _, err := get(t, conn, 0, opts...); err != nil {
		t.Errorf("the call failed: %v", err)
	}
}

const echoTarget = "discovery:///" + testenv.Service

// A client that was started before the registry: calls fail at once with the
// reason, wait-for-ready ones wait, and within a second of the registry's
// return everything works.
func TestRegistryDownForAnHour(t *testing.T) {
	for _, name := range []string{"pick_first", roundrobin.Name} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := testenv.New(t)
				src := newSource()
				src.down(errDown)
				conn := sys.Dial("discovery:///greeter", grpc.WithResolvers(NewBuilder(src)), policy(name), grpc.WithIdleTimeout(0))

				expectFailure(t, conn, 0, 0, codes.Unavailable, downText)
				time.Sleep(time.Hour)
				expectFailure(t, conn, 0, 0, codes.Unavailable, downText)
				expectFailure(t, conn, time.Second, time.Second, codes.DeadlineExceeded, downText, grpc.WaitForReady(true))

				waited := make(chan error)
				go func() {
					_, _, err := get(t, conn, 0, grpc.WaitForReady(true))
					waited <- err
				}()
				synctest.Wait()
				src.shows(sys.Listen(registry.Instance{ID: "a"}).Instance())
				src.down(nil)
				time.Sleep(time.Second)
				expectCall(t, conn)
				if err := <-waited; err != nil {
					t.Errorf("the call that waited for ready failed: %v", err)
				}
			})
		})
	}
}

// A registry that does not answer: a call without a deadline does not hang.
func TestRegistryHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		src := newSource()
		conn := sys.Dial("discovery:///greeter", grpc.WithResolvers(NewBuilder(src)))
		const text = "discovery:///greeter: the registry has given no answer for 5s"
		expectFailure(t, conn, 0, firstAnswer, codes.Unavailable, text)
		expectFailure(t, conn, 0, 0, codes.Unavailable, text)

		src.shows(sys.Listen(registry.Instance{ID: "a"}).Instance())
		time.Sleep(time.Second)
		expectCall(t, conn)
	})
}

// A registry that answers late, but in time, costs nothing but the wait.
func TestRegistryIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		src := newSource()
		inst := sys.Listen(registry.Instance{ID: "a"}).Instance()
		time.AfterFunc(4*time.Second, func() { src.shows(inst) })
		conn := sys.Dial("discovery:///greeter", grpc.WithResolvers(NewBuilder(src)))
		if _, took, err := get(t, conn, 0); err != nil || took != 4*time.Second {
			t.Errorf("the call ended after %v with %v, want success after 4s", took, err)
		}
	})
}

// From a wrong name to a server and back, with the registry itself.
func TestUnknownService(t *testing.T) {
	for _, name := range []string{"pick_first", roundrobin.Name} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := testenv.New(t)
				conn := sys.Dial(echoTarget, grpc.WithResolvers(NewBuilder(sys.Registry)), policy(name))
				expectFailure(t, conn, 0, 0, codes.Unavailable, registry.ErrUnknownService.Error())

				server := sys.Start(registry.Instance{ID: "a"})
				expectCall(t, conn, grpc.WaitForReady(true))

				server.Deregister()
				synctest.Wait()
				want := registry.ErrUnknownService.Error()
				if name == roundrobin.Name {
					want = "no children to pick from" // it shows no resolver's error
				}
				expectFailure(t, conn, 0, 0, codes.Unavailable, want)

				server.Register()
				expectCall(t, conn, grpc.WaitForReady(true))
			})
		})
	}
}

// Calls do not notice that the registry is away after the channel has resolved.
func TestOutageAfterResolving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		src := newSource()
		src.shows(sys.Listen(registry.Instance{ID: "a"}).Instance())
		conn := sys.Dial("discovery:///greeter", grpc.WithResolvers(NewBuilder(src)), policy(roundrobin.Name))
		expectCall(t, conn)
		for i := range 60 {
			src.fails(fmt.Errorf("outage %d: %w", i, registry.ErrUnavailable))
			time.Sleep(time.Second)
			expectCall(t, conn)
		}
	})
}

// Instances that the channel's credentials cannot talk to are named as the
// reason.
func TestCredentialsFitNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		sys.Start(registry.Instance{ID: "a", TLS: true})
		conn := sys.Dial(echoTarget, grpc.WithResolvers(NewBuilder(sys.Registry)))
		expectFailure(t, conn, 0, 0, codes.Unavailable,
			`discovery:///echo: none of the 1 instances of "echo" can be called: 1 speaking tls, and the channel's credentials are insecure`)
	})
}

// What gRPC does with a target that Build refuses: NewClient says nothing, and
// the first call and all others fail with the reason.
func TestBadTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		conn := sys.Dial(echoTarget+"?region=eu", grpc.WithResolvers(NewBuilder(sys.Registry)))
		const text = `resolver: target "discovery:///echo?region=eu": unknown option "region": the options are authority, version, zone`
		for range 3 {
			expectFailure(t, conn, 0, 0, codes.Unavailable, text)
			time.Sleep(time.Minute)
		}
		expectFailure(t, conn, time.Second, time.Second, codes.DeadlineExceeded, text, grpc.WaitForReady(true))
		if got := conn.GetState(); got != connectivity.TransientFailure {
			t.Errorf("the channel is %v, want TRANSIENT_FAILURE", got)
		}
	})
}

// gRPC closes the resolver of a channel without calls; the next call brings it
// back.
func TestIdleChannelWatchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		src := newSource()
		src.shows(sys.Listen(registry.Instance{ID: "a"}).Instance())
		conn := sys.Dial("discovery:///greeter", grpc.WithResolvers(NewBuilder(src)), grpc.WithIdleTimeout(30*time.Minute))
		if used := src.used(); used.watches != 0 {
			t.Errorf("NewClient made %d watches, want none before the first call", used.watches)
		}
		expectCall(t, conn)
		time.Sleep(time.Hour)
		if used := src.used(); used.watches != 1 || used.open != 0 {
			t.Errorf("idle: %d watches were made and %d are open, want 1 and 0", used.watches, used.open)
		}
		expectCall(t, conn)
		if used := src.used(); used.watches != 2 || used.open != 1 {
			t.Errorf("in use again: %d watches were made and %d are open, want 2 and 1", used.watches, used.open)
		}
	})
}

// A lost connection makes the registry look again.
func TestLostConnectionAsksTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		src := newSource()
		server := sys.Listen(registry.Instance{ID: "a"})
		src.shows(server.Instance())
		conn := sys.Dial("discovery:///greeter", grpc.WithResolvers(NewBuilder(src)), policy(roundrobin.Name))
		expectCall(t, conn)
		asked := len(src.used().refreshes)
		time.Sleep(time.Minute)
		server.Kill()
		synctest.Wait()
		if got := len(src.used().refreshes); got != asked+1 {
			t.Errorf("Refresh was called %d times after the connection broke, want once", got-asked)
		}
	})
}

func init() { balancer.Register(base.NewBalancerBuilder("addresses_only", anyReady{}, base.Config{})) }

// anyReady is a policy on balancer/base, which knows addresses only.
type anyReady struct{}

func (anyReady) Build(info base.PickerBuildInfo) balancer.Picker {
	for sc := range info.ReadySCs {
		return picks{sc}
	}
	return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
}

type picks struct{ sc balancer.SubConn }

func (p picks) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{SubConn: p.sc}, nil
}

// A policy that knows addresses only gets those that want calls, once each.
func TestPolicyThatKnowsAddressesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		a := sys.Start(registry.Instance{ID: "a", Addrs: []string{sys.Addr(), sys.Addr()}})
		b := sys.Start(registry.Instance{ID: "b", Status: registry.Draining})
		conn := sys.Dial(echoTarget, grpc.WithResolvers(NewBuilder(sys.Registry)), policy("addresses_only"))
		testenv.Shares(t, conn, 10)
		if got := sys.Network.Dials(a.Instance().Addrs[1]) + sys.Network.Dials(b.Addr); got != 0 {
			t.Errorf("%d connections to a's second address and to b, which drains; want none", got)
		}
		a.Update(func(i *registry.Instance) { i.Status = registry.Draining })
		synctest.Wait()
		testenv.Shares(t, conn, 10) // better than nobody
	})
}

// Closing the registry first, or the channel, leaves nothing behind.
func TestCloseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		sys.Start(registry.Instance{ID: "a"})
		conn := sys.Dial(echoTarget, grpc.WithResolvers(NewBuilder(sys.Registry)))
		expectCall(t, conn)
		if err := sys.Registry.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		expectCall(t, conn)
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		_, _, err := get(t, conn, 0)
		//lint:ignore SA1019 It is the only name gRPC has for it.
		if !errors.Is(err, grpc.ErrClientConnClosing) {
			t.Errorf("a call after Close failed with %v", err)
		}
	})
}
