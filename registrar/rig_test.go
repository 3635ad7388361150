package registrar_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
)

const (
	service = "echo"
	addr    = "10.0.0.1:9000"
)

// journal is what happened when, in fake time since it was made.
type journal struct {
	began time.Time
	mu    sync.Mutex // guards lines
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf("%v "+format, append([]any{time.Since(j.began)}, args...)...))
}

func (j *journal) check(t *testing.T, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.lines, want) {
		t.Errorf("what happened:\n  %s\nwant:\n  %s", strings.Join(j.lines, "\n  "), strings.Join(want, "\n  "))
	}
}

// of returns the lines that contain text.
func (j *journal) of(text string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(j.lines), func(line string) bool { return !strings.Contains(line, text) })
}

// slowRegistry is a registry in memory that fails and dawdles as told, and
// writes down what it is asked.
type slowRegistry struct {
	*memory.Registry
	journal *journal

	mu       sync.Mutex    // guards all below
	err      error         // what Register fails with at once
	takes    time.Duration // how long Register and Deregister take, if their ctx lets them
	asked    int           // Register calls
	holds    int           // registrations in place
	received []registry.Instance
	events   chan registry.Event // in place of the real ones, if set
}

func (r *slowRegistry) set(err error, takes time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.takes = err, takes
}

func (r *slowRegistry) count() (asked, holds int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked, r.holds
}

func (r *slowRegistry) wait(ctx context.Context) error {
	r.mu.Lock()
	err, takes := r.err, r.takes
	r.mu.Unlock()
	return errors.Join(backoff.Wait(ctx, takes), err)
}

func (r *slowRegistry) Register(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
	r.mu.Lock()
	r.asked++
	r.received = append(r.received, inst)
	r.mu.Unlock()
	r.journal.add("register")
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	registration, err := r.Registry.Register(ctx, inst)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holds++
	return &slowRegistration{registration, r}, nil
}

type slowRegistration struct {
	registry.Registration
	registry *slowRegistry
}

func (g *slowRegistration) Events() <-chan registry.Event {
	if g.registry.events != nil {
		return g.registry.events
	}
	return g.Registration.Events()
}

func (g *slowRegistration) Update(ctx context.Context, inst registry.Instance) error {
	g.registry.journal.add("update to weight %d, %s", inst.Weight, inst.Status)
	if err := g.registry.wait(ctx); err != nil {
		return err
	}
	return g.Registration.Update(ctx, inst)
}

func (g *slowRegistration) Deregister(ctx context.Context) error {
	g.registry.journal.add("deregister")
	err := g.registry.wait(ctx)
	g.registry.mu.Lock()
	g.registry.holds--
	g.registry.mu.Unlock()
	return errors.Join(err, g.Registration.Deregister(ctx))
}

// rig is one server in a bubble.
type rig struct {
	*registrar.Registrar
	t       *testing.T
	journal *journal
	reg     *slowRegistry
	network *testenv.Network
	echo    *testenv.Echo
	server  *grpc.Server
	lis     net.Listener
	cancel  context.CancelFunc // ends the ctx of Serve
	ctx     context.Context
	result  chan error // of Serve
}

// newRig returns a server that does not serve yet.
func newRig(t *testing.T, opts ...registrar.Option) *rig { return newRigWith(t, nil, opts...) }

// newRigWith is newRig with gRPC options that come before the registrar's.
func newRigWith(t *testing.T, before []grpc.ServerOption, opts ...registrar.Option) *rig {
	t.Helper()
	return newRigOn(t, func(r *slowRegistry) registrar.Registry { return r }, before, opts...)
}

// newRigOn is newRigWith on another registry made of the slow one.
func newRigOn(t *testing.T, on func(*slowRegistry) registrar.Registry, before []grpc.ServerOption, opts ...registrar.Option) *rig {
	t.Helper()
	j := &journal{began: time.Now()}
	r := &rig{
		t: t, journal: j, network: testenv.NewNetwork(), result: make(chan error, 1),
		reg: &slowRegistry{Registry: memory.New(), journal: j},
	}
	t.Cleanup(func() { r.reg.Close() })
	opts = append([]registrar.Option{registrar.WithStateObserver(func(s registrar.State) { j.add("%s", s) })}, opts...)
	r.Registrar = registrar.New(on(r.reg), registry.Instance{Service: service, Weight: 5}, opts...)
	r.echo = testenv.NewEcho(r.Instance().ID)
	r.useRegistrar(before...)
	lis, err := r.network.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	r.lis = &tellingListener{Listener: lis, journal: j}
	r.ctx, r.cancel = context.WithCancel(t.Context())
	t.Cleanup(r.Stop)
	return r
}

// useRegistrar builds the server for the registrar that the rig now has.
func (r *rig) useRegistrar(before ...grpc.ServerOption) {
	r.server = grpc.NewServer(append(before, r.ServerOptions()...)...)
	echov1.RegisterEchoServer(r.server, r.echo)
}

// tellingListener writes down when it is closed.
type tellingListener struct {
	net.Listener
	journal *journal
	once    sync.Once
}

func (l *tellingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tellingConn{Conn: c}, nil
}

// tellingConn says whether it is closed in the way of a socket.
type tellingConn struct {
	net.Conn
	closed atomic.Bool
}

func (c *tellingConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

func (c *tellingConn) SyscallConn() (syscall.RawConn, error) { return rawConn{conn: c}, nil }

// rawConn has of syscall.RawConn what is needed.
type rawConn struct {
	syscall.RawConn
	conn *tellingConn
}

func (c rawConn) Control(func(fd uintptr)) error {
	if c.conn.closed.Load() {
		return net.ErrClosed
	}
	return nil
}

func (l *tellingListener) Close() error {
	l.once.Do(func() { l.journal.add("listener closed") })
	return l.Listener.Close()
}

// serve starts Serve and waits until nothing moves any more.
func (r *rig) serve() *rig {
	go func() { r.result <- r.Serve(r.ctx, r.server, r.lis) }()
	synctest.Wait()
	return r
}

// dial returns a client of the server. dialer may be nil.
func (r *rig) dial(dialer func(context.Context, string) (net.Conn, error), opts ...grpc.DialOption) echov1.EchoClient {
	return echov1.NewEchoClient(r.conn(dialer, opts...))
}

func (r *rig) conn(dialer func(context.Context, string) (net.Conn, error), opts ...grpc.DialOption) *grpc.ClientConn {
	r.t.Helper()
	if dialer == nil {
		dialer = r.network.Dial
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dialer), grpc.WithNoProxy(),
	}, opts...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

// marks are what the trailer proves about the rig's server.
func (r *rig) marks(trailer metadata.MD) drain.Marks {
	inst := r.Instance()
	return drain.Read(trailer, inst.ID, inst.Life)
}

// wantResult waits for Serve's result.
func (r *rig) wantResult(want error) {
	r.t.Helper()
	if err := <-r.result; !errors.Is(err, want) {
		r.t.Errorf("Serve returned %v, want %v", err, want)
	}
}

// answer is the outcome of a call made in the background.
type answer struct {
	err     error
	trailer metadata.MD
	took    time.Duration
}

// get calls Get in the background.
func get(ctx context.Context, client echov1.EchoClient) <-chan answer {
	ch := make(chan answer, 1)
	began := time.Now()
	go func() {
		var trailer metadata.MD
		_, err := client.Get(ctx, &echov1.GetRequest{}, grpc.Trailer(&trailer))
		ch <- answer{err, trailer, time.Since(began)}
	}()
	return ch
}

// stallable is a connection whose reader can be made to see nothing for a while.
type stallable struct {
	net.Conn
	mu      sync.Mutex
	stalled chan struct{} // closed when it goes on; nil while it flows
}

func (s *stallable) stall() (goOn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := make(chan struct{})
	s.stalled = ch
	return func() { close(ch) }
}

func (s *stallable) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.mu.Lock()
	ch := s.stalled
	s.mu.Unlock()
	if ch != nil {
		<-ch
	}
	return n, err
}
