// Package system tests the parts together: registry, registrar, resolver,
// balancer and failmode with real gRPC servers and real HTTP, each scenario in a
// bubble with a clock and a network of its own. What needs real processes is one
// directory up.
package system

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
	"github.com/rollcall-go/rollcall/registry/memory"
	"github.com/rollcall-go/rollcall/registry/registryserver"
	"github.com/rollcall-go/rollcall/resolver"
)

const (
	service   = testenv.Service
	target    = "discovery:///" + service
	registry1 = "10.9.0.1:6666"
)

// world is the network of one scenario and the processes on it.
type world struct {
	*testenv.System
	t *testing.T
	// join makes the registry client of a process.
	join func(*host) registry.Registry
}

// inBubble runs the scenario with a registry that is reached over HTTP.
func inBubble(t *testing.T, scenario func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{System: testenv.New(t), t: t}
		w.startRegistry(registry1)
		w.useRegistry(registry1)
		scenario(t, w)
	})
}

// inBubbleInMemory runs it with a registry in memory.
func inBubbleInMemory(t *testing.T, scenario func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		t.Cleanup(func() { store.Close() })
		w := &world{System: testenv.New(t), t: t, join: func(*host) registry.Registry { return store.Client() }}
		scenario(t, w)
	})
}

// startRegistry starts a registry node, knowing nothing. It ends with the test,
// or when the returned function kills it.
func (w *world) startRegistry(addr string) (kill func()) {
	w.t.Helper()
	node, err := registryserver.New(registryserver.WithEnv("test"))
	if err != nil {
		w.t.Fatal(err)
	}
	lis, err := w.Network.Listen(addr)
	if err != nil {
		w.t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { node.Serve(context.Background(), lis) })
	kill = sync.OnceFunc(func() {
		w.Network.Kill(addr)
		node.Close()
		serving.Wait()
	})
	w.t.Cleanup(kill)
	return kill
}

// useRegistry makes processes join the registry at these nodes from now on.
func (w *world) useRegistry(nodes ...string) {
	w.join = func(h *host) registry.Registry {
		client, err := httpregistry.New(nodes, httpregistry.WithEnv("test"), httpregistry.WithHTTPClient(h.http()))
		if err != nil {
			w.t.Fatal(err)
		}
		return client
	}
}

// host is what a process reaches the network by. When it is dead, so is
// everything that the process would still say.
type host struct {
	network *testenv.Network
	mu      sync.Mutex // guards all below; nothing is called under it
	dead    bool
	conns   []net.Conn
}

func (h *host) http() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: h.dial}}
}

func (h *host) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	c, err := h.network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		c.Close()
		return nil, net.ErrClosed
	}
	h.conns = append(h.conns, c)
	return c, nil
}

func (h *host) kill() {
	h.mu.Lock()
	h.dead = true
	conns := h.conns
	h.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// process is a server as a user would write it.
type process struct {
	*registrar.Registrar
	*testenv.Echo
	inst registry.Instance

	w       *world
	host    *host
	reg     registry.Registry
	srv     *grpc.Server
	serving sync.WaitGroup
	err     error // what Serve returned, after serving
}

// start starts a server process and waits until it is registered. Without an
// address it gets one.
func (w *world) start(inst registry.Instance, opts ...registrar.Option) *process {
	w.t.Helper()
	inst.Service = service
	if len(inst.Addrs) == 0 {
		inst.Addrs = []string{w.Addr()}
	}
	lis, err := w.Network.Listen(inst.Addrs[0])
	if err != nil {
		w.t.Fatal(err)
	}
	registered := make(chan struct{})
	opts = append(opts, registrar.WithLogger(slog.New(slog.DiscardHandler)), registrar.WithStateObserver(func(s registrar.State) {
		if s == registrar.StateRegistered {
			close(registered)
		}
	}))
	h := &host{network: w.Network}
	p := &process{Echo: testenv.NewEcho(inst.ID), inst: inst, w: w, host: h, reg: w.join(h)}
	p.Registrar = registrar.New(p.reg, inst, opts...)
	p.srv = grpc.NewServer(p.ServerOptions()...)
	echov1.RegisterEchoServer(p.srv, p.Echo)
	p.serving.Go(func() { p.err = p.Serve(context.Background(), p.srv, lis) })
	w.t.Cleanup(p.end)
	select {
	case <-registered:
	case <-w.t.Context().Done():
	}
	return p
}

// shutdown is SIGTERM, and waits for the end of the process.
func (p *process) shutdown() {
	p.w.t.Helper()
	if err := p.Shutdown(context.Background()); err != nil {
		p.w.t.Errorf("shutdown of %s: %v", p.inst.ID, err)
	}
	p.end()
}

// kill is SIGKILL: connections break, and nobody is told anything.
func (p *process) kill() {
	p.host.kill()
	p.w.Network.Kill(p.inst.Addrs[0])
	p.srv.Stop()
}

func (p *process) end() {
	p.Stop()
	p.serving.Wait()
	p.reg.Close()
}

// client is a client process with the given policy and mode.
func (w *world) client(p balancer.Picker, mode failmode.Mode) *grpc.ClientConn {
	w.t.Helper()
	return w.dial(
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(p)),
		grpc.WithChainUnaryInterceptor(failmode.UnaryClientInterceptor(mode)),
		grpc.WithChainStreamInterceptor(failmode.StreamClientInterceptor(mode)),
	)
}

// dial is a client process with nothing of ours but the resolver.
func (w *world) dial(opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	return w.dialTarget(target, opts...)
}

// dialTarget is dial with another target. It has connected to whom it can.
func (w *world) dialTarget(target string, opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	reg := w.join(&host{network: w.Network})
	w.t.Cleanup(func() { reg.Close() })
	conn := w.Dial(target, append([]grpc.DialOption{
		grpc.WithResolvers(resolver.NewBuilder(reg)),
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(nil)),
	}, opts...)...)
	conn.Connect()
	time.Sleep(time.Second)
	return conn
}

// refusing is a client of one process, which refuses every call from now on.
func (w *world) refusing(p *process) echov1.EchoClient {
	p.Refuse()
	return echov1.NewEchoClient(w.Dial("passthrough:///" + p.inst.Addrs[0]))
}
