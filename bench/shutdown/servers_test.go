package shutdown

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
)

const (
	service = "echo"
	// handling is how long a call takes, so that there are some in hand.
	handling = 20 * time.Millisecond
	// drainDelay is what rollcall's default is to its default of the poll.
	drainDelay = poll * 3 / 2
)

// way is a way to run a server: it serves on lis, is registered when it returns, and
// down makes it leave.
type way struct {
	name  string
	serve func(t *testing.T, reg *httpregistry.Client, inst registry.Instance, lis net.Listener) (down func())
}

var (
	// stopping deregisters and closes, whatever is in hand.
	stopping = way{"deregister, Stop", func(t *testing.T, reg *httpregistry.Client, inst registry.Instance, lis net.Listener) func() {
		return serveBare(t, reg, inst, lis, (*grpc.Server).Stop)
	}}
	// graceful deregisters and closes with gRPC's own means.
	graceful = way{"deregister, GracefulStop", func(t *testing.T, reg *httpregistry.Client, inst registry.Instance, lis net.Listener) func() {
		return serveBare(t, reg, inst, lis, (*grpc.Server).GracefulStop)
	}}
	// barriers deregisters, refuses what comes later with a special failure, waits for
	// the calls in hand, and closes.
	barriers = way{"deregister, refuse, wait, close", func(t *testing.T, reg *httpregistry.Client, inst registry.Instance, lis net.Listener) func() {
		b := &barrier{}
		return serveBare(t, reg, inst, lis, func(srv *grpc.Server) {
			b.close()
			srv.Stop()
		}, grpc.UnaryInterceptor(b.intercept))
	}}
	// rollcall is package registrar.
	rollcall = way{"rollcall", func(t *testing.T, reg *httpregistry.Client, inst registry.Instance, lis net.Listener) func() {
		registered := make(chan struct{})
		r := registrar.New(reg, inst, registrar.WithDrainDelay(drainDelay), registrar.WithStateObserver(func(s registrar.State) {
			if s == registrar.StateRegistered {
				close(registered)
			}
		}))
		srv := newServer(inst.ID, r.ServerOptions()...)
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := r.Serve(t.Context(), srv, lis); err != nil {
				t.Error(err)
			}
		})
		<-registered
		return func() {
			if err := r.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			serving.Wait()
		}
	}}
)

func newServer(id string, opts ...grpc.ServerOption) *grpc.Server {
	srv := grpc.NewServer(opts...)
	echo := testenv.NewEcho(id)
	echo.OnCall(testenv.Delay(handling))
	echov1.RegisterEchoServer(srv, echo)
	return srv
}

// serveBare serves without package registrar.
func serveBare(t *testing.T, reg *httpregistry.Client, inst registry.Instance, lis net.Listener, stop func(*grpc.Server), opts ...grpc.ServerOption) func() {
	srv := newServer(inst.ID, opts...)
	inst.Addrs = []string{lis.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(lis) })
	registration, err := reg.Register(t.Context(), inst)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := registration.Deregister(context.Background()); err != nil {
			t.Error(err)
		}
		stop(srv)
		serving.Wait()
	}
}

// errClosing is the special failure.
var errClosing = status.Error(codes.Unavailable, "the server is closing and has not executed this call")

// barrier lets calls in until it is closed.
type barrier struct {
	mu     sync.RWMutex // held for reading while a call is in hand
	closed bool
}

func (b *barrier) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if !b.mu.TryRLock() { // about to close
		return nil, errClosing
	}
	defer b.mu.RUnlock()
	if b.closed {
		return nil, errClosing
	}
	return handler(ctx, req)
}

// close returns when no call is in hand.
func (b *barrier) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}
