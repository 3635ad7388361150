package failmode_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// world is servers and a client whose calls go through failmode and rollcall.
type world struct {
	*testenv.System
	servers []*testenv.Server
	names   *manual.Resolver
	conn    *grpc.ClientConn
	client  echov1.EchoClient

	mu     sync.Mutex // guards events
	events []failmode.AttemptEvent
}

// newWorld starts a server for each of ids, and connects.
func newWorld(t *testing.T, ids string, mode failmode.Mode, opts ...failmode.Option) *world {
	t.Helper()
	w := &world{System: testenv.New(t)}
	for _, id := range ids {
		w.servers = append(w.servers, w.Start(registry.Instance{ID: string(id)}))
	}
	w.dial(w.intercept(mode, opts...)...)
	return w
}

// intercept returns the dial options for failmode; its events are noted.
func (w *world) intercept(mode failmode.Mode, opts ...failmode.Option) []grpc.DialOption {
	opts = append([]failmode.Option{failmode.WithObserver(w.note)}, opts...)
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(failmode.UnaryClientInterceptor(mode, opts...)),
		grpc.WithChainStreamInterceptor(failmode.StreamClientInterceptor(mode, opts...)),
	}
}

func (w *world) note(e failmode.AttemptEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// dial connects to all servers by the rollcall policy. Only in a bubble.
func (w *world) dial(opts ...grpc.DialOption) {
	w.names = manual.NewBuilderWithScheme("world")
	w.names.InitialState(w.state())
	opts = append([]grpc.DialOption{
		grpc.WithResolvers(w.names), grpc.WithIdleTimeout(0),
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.RoundRobin{})),
	}, opts...)
	w.conn = w.Dial("world:///echo", opts...)
	w.client = echov1.NewEchoClient(w.conn)
	w.conn.Connect()
	time.Sleep(time.Second) // of the bubble: every server is connected
}

// update tells the client which servers there are now.
func (w *world) update() { w.names.UpdateState(w.state()) }

func (w *world) state() (state gresolver.State) {
	for _, s := range w.servers {
		addr := []gresolver.Address{{Addr: s.Addr}}
		state.Endpoints = append(state.Endpoints, endpoint.Set(gresolver.Endpoint{Addresses: addr}, s.Instance()))
	}
	return state
}

// server returns the one with this ID.
func (w *world) server(id string) *testenv.Server {
	return w.servers[slices.IndexFunc(w.servers, func(s *testenv.Server) bool { return s.Instance().ID == id })]
}

// all gives every server the hook that of makes for it.
func (w *world) all(of func(*testenv.Server) testenv.Hook) {
	for _, s := range w.servers {
		s.OnCall(of(s))
	}
}

// executed is how often handlers ran, in all servers.
func (w *world) executed() (n int) {
	for _, s := range w.servers {
		n += s.Executed()
	}
	return n
}

// take returns the events since the last time.
func (w *world) take() []failmode.AttemptEvent {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

func targets(events []failmode.AttemptEvent) (ids []string) {
	for _, e := range events {
		ids = append(ids, e.Target.ID)
	}
	return ids
}
