package registrar_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
)

// shows checks what the registry shows of the rig's server.
func (r *rig) shows(weight uint32, status registry.Status) {
	r.t.Helper()
	snap, err := r.reg.Fetch(r.t.Context(), service)
	if err != nil {
		r.t.Fatal(err)
	}
	got, want := snap.Instances[0], r.Instance()
	if got.Weight != weight || got.Status != status || got.Weight != want.Weight || got.Status != want.Status {
		r.t.Errorf("the registry shows weight %d, %v and Instance %d, %v; want %d, %v", got.Weight, got.Status, want.Weight, want.Status, weight, status)
	}
}

func TestUpdatesWhileServing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := health.NewServer()
		r := newRig(t, registrar.WithHealthServer(h)).serve()
		client := r.dial(nil)
		steps := []struct {
			do     func(context.Context) error
			weight uint32
			status registry.Status
			health healthpb.HealthCheckResponse_ServingStatus
		}{
			{func(ctx context.Context) error { return r.SetWeight(ctx, 7) }, 7, registry.Up, healthpb.HealthCheckResponse_SERVING},
			{r.Drain, 7, registry.Draining, healthpb.HealthCheckResponse_NOT_SERVING},
			{func(ctx context.Context) error { return r.SetWeight(ctx, 3) }, 3, registry.Draining, healthpb.HealthCheckResponse_NOT_SERVING},
			{r.Resume, 3, registry.Up, healthpb.HealthCheckResponse_SERVING},
		}
		for _, step := range steps {
			if err := step.do(t.Context()); err != nil {
				t.Error(err)
			}
			r.shows(step.weight, step.status)
			if got := healthOf(t, h, service); got != step.health {
				t.Errorf("health is %v, want %v", got, step.health)
			}
			// It serves all the same, and says nothing that could not be taken back.
			if a := <-get(t.Context(), client); a.err != nil || len(a.trailer) > 0 {
				t.Errorf("a call: %v, trailer %v", a.err, a.trailer)
			}
		}
		if got := r.network.Dials(addr); got != 1 {
			t.Errorf("the client connected %d times", got)
		}
		if err := r.SetWeight(t.Context(), 0); err == nil {
			t.Error("a weight of 0: no error")
		}
		r.shows(3, registry.Up)
	})
}

// What is changed before, or while, the server is registered is registered.
func TestUpdatesBeforeRegistered(t *testing.T) {
	for _, when := range []string{"before Serve", "while registering"} {
		bubble(t, func(t *testing.T) {
			h := health.NewServer()
			r := newRig(t, registrar.WithHealthServer(h))
			r.reg.set(nil, time.Second)
			if when == "while registering" {
				r.serve()
			}
			if err := errors.Join(r.Drain(t.Context()), r.SetWeight(t.Context(), 9)); err != nil {
				t.Error(err)
			}
			if when == "before Serve" {
				r.serve()
			}
			time.Sleep(5 * time.Second)
			r.shows(9, registry.Draining)
			if got := healthOf(t, h, ""); got != healthpb.HealthCheckResponse_NOT_SERVING {
				t.Errorf("%s: health is %v", when, got)
			}
		})
	}
}

func TestUpdateFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		r.reg.set(errDown, 0)
		if err := r.SetWeight(t.Context(), 7); !errors.Is(err, errDown) {
			t.Errorf("SetWeight returned %v", err)
		}
		r.reg.set(nil, time.Hour)
		blocked := make(chan error)
		go func() { blocked <- r.SetWeight(context.Background(), 8) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain behind one that hangs returned %v", err)
		}
		// Those that hang keep no shutdown waiting, which needs no turn.
		began := time.Now()
		r.cancel()
		r.wantResult(nil)
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the shutdown took %v", took)
		}
		if err := <-blocked; !errors.Is(err, registrar.ErrStopped) {
			t.Errorf("SetWeight that was under way: %v", err)
		}
		for _, err := range []error{r.SetWeight(t.Context(), 9), r.Drain(t.Context()), r.Resume(t.Context())} {
			if !errors.Is(err, registrar.ErrStopped) {
				t.Errorf("afterwards: %v", err)
			}
		}
	})
}

// Updates are written in the order in which they were made.
func TestLastUpdateWins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		r.reg.set(nil, time.Second)
		for weight := range uint32(5) {
			go r.SetWeight(context.Background(), weight+10)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		r.shows(14, registry.Up)
	})
}

func TestSlowStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.Registrar = registrar.New(r.reg, registry.Instance{Service: service, Weight: 20}, registrar.WithSlowStart(10*time.Second, 0.1))
		t.Cleanup(r.Stop)
		r.useRegistrar()
		r.reg.set(nil, time.Millisecond)
		r.serve()
		time.Sleep(5500 * time.Millisecond)
		r.shows(11, registry.Up)
		if err := r.SetWeight(t.Context(), 40); err != nil {
			t.Error(err)
		}
		r.shows(22, registry.Up)
		time.Sleep(time.Minute)
		r.shows(40, registry.Up)
		if got := len(r.journal.of("update")); got != 11 {
			t.Errorf("%d updates, want one for each of 10 steps and one for SetWeight: %q", got, r.journal.of("update"))
		}
	})
}

// Small weights grow in fewer steps, and the end of the server ends them.
func TestSlowStartOfSmallWeights(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, registrar.WithSlowStart(10*time.Second, 0.2)).serve() // weight 5
		r.shows(1, registry.Up)
		time.Sleep(6 * time.Second)
		r.shows(3, registry.Up)
		r.cancel()
		r.wantResult(nil)
		if got := len(r.journal.of("update")); got != 2 {
			t.Errorf("updates: %q", r.journal.of("update"))
		}
	})
}
