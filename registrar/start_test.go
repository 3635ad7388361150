package registrar_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/registrar"
)

// begin serves without the registrar.
func (r *rig) begin() {
	go func() { r.result <- r.server.Serve(r.lis) }()
	synctest.Wait()
}

func TestStartAndShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := health.NewServer()
		r := newRig(t, registrar.WithHealthServer(h))
		second, err := r.network.Listen("10.0.0.1:9001")
		if err != nil {
			t.Fatal(err)
		}
		r.begin()
		go r.server.Serve(second)
		r.reg.set(nil, time.Second)
		if err := r.Start(t.Context(), addr, r.server); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if got := healthOf(t, h, name); got != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("health of %q is %v", name, got)
			}
		}
		r.echo.OnCall(testenv.Delay(10 * time.Second))
		call := get(t.Context(), r.dial(nil))
		synctest.Wait()
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if a := <-call; a.err != nil || !r.marks(a.trailer).Closing {
			t.Errorf("the call in hand: %v, trailer %v", a.err, a.trailer)
		}
		if got := healthOf(t, h, ""); got != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health is %v", got)
		}
		r.wantResult(nil)
		r.journal.check(t, "0s listening", "0s register", "1s registered", "1s draining", "1s deregister",
			"9s closing", "9s listener closed", "11s stopped")
	})
}

func TestStartWithoutAServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.begin()
		if err := r.Start(t.Context(), addr); err != nil {
			t.Fatal(err)
		}
		client := r.dial(nil)
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		r.journal.check(t, "0s listening", "0s register", "0s registered", "0s draining", "0s deregister", "7s closing", "7s stopped")
		// To stop it is the program's business; until then it serves, marked.
		if a := <-get(t.Context(), client); a.err != nil || !r.marks(a.trailer).Closing {
			t.Errorf("after Shutdown: %v, trailer %v", a.err, a.trailer)
		}
		r.server.GracefulStop()
		r.wantResult(nil)
	})
}

func TestStartFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.begin()
		r.reg.set(errDown, 0)
		if err := r.Start(t.Context(), addr, r.server); !errors.Is(err, errDown) {
			t.Errorf("Start returned %v", err)
		}
		r.wantResult(nil) // the server was stopped
	})
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.begin()
		r.reg.set(nil, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Start(ctx, addr, r.server); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Start returned %v", err)
		}
		if took := time.Since(r.journal.began); took != time.Second {
			t.Errorf("it took %v", took)
		}
		r.wantResult(nil)
		if _, holds := r.reg.count(); holds != 0 {
			t.Error("it is registered")
		}
	})
}

func TestContextEndsAsStartSucceeds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := newRig(t, registrar.WithStateObserver(func(s registrar.State) {
			if s == registrar.StateRegistered {
				cancel()
			}
		}))
		r.begin()
		if err := r.Start(ctx, addr, r.server); !errors.Is(err, context.Canceled) || r.State() != registrar.StateStopped {
			t.Errorf("Start returned %v in state %v", err, r.State())
		}
		r.wantResult(nil)
	})
}

func TestStartOutlivesItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.begin()
		ctx, cancel := context.WithCancel(t.Context())
		if err := r.Start(ctx, addr, r.server); err != nil {
			t.Fatal(err)
		}
		cancel()
		time.Sleep(time.Hour)
		if r.State() != registrar.StateRegistered {
			t.Errorf("state %v", r.State())
		}
	})
}

func TestShutdownDuringStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.begin()
		r.reg.set(nil, time.Hour)
		time.AfterFunc(time.Second, func() { r.Shutdown(context.Background()) })
		if err := r.Start(t.Context(), addr, r.server); !errors.Is(err, registrar.ErrStopped) {
			t.Errorf("Start returned %v", err)
		}
		r.wantResult(nil)
	})
}

func TestStartInBackground(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, registrar.WithRegisterInBackground())
		r.begin()
		r.reg.set(errDown, 0)
		if err := r.Start(t.Context(), addr, r.server); err != nil || r.State() != registrar.StateListening {
			t.Errorf("Start returned %v in state %v", err, r.State())
		}
		r.reg.set(nil, 0)
		time.Sleep(5 * time.Second)
		if r.State() != registrar.StateRegistered {
			t.Errorf("state %v", r.State())
		}
	})
}

// Two servers behind one registrar are closed side by side.
func TestStartSeveralServers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, registrar.WithDrainDelay(0))
		r.begin()
		other := grpc.NewServer(r.ServerOptions()...)
		lis, err := r.network.Listen("10.0.0.1:9001")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- other.Serve(lis) }()
		if err := r.Start(t.Context(), addr, r.server, other); err != nil {
			t.Fatal(err)
		}
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		r.wantResult(nil)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
