package registrar_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
)

func healthOf(t *testing.T, h *health.Server, name string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	got, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
	if err != nil {
		t.Fatalf("health of %q: %v", name, err)
	}
	return got.GetStatus()
}

// names are what health is kept for.
var names = []string{"", service, echov1.Echo_ServiceDesc.ServiceName}

func TestHealthFollowsTheState(t *testing.T) {
	const serving, notServing = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	setups := map[string]func(t *testing.T, h *health.Server) *rig{
		"added": func(t *testing.T, h *health.Server) *rig { return newRig(t, registrar.WithHealthServer(h)) },
		"the program's own": func(t *testing.T, h *health.Server) *rig {
			r := newRig(t, registrar.WithHealthServer(h))
			healthpb.RegisterHealthServer(r.server, h)
			return r
		},
	}
	for name, setup := range setups {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := health.NewServer()
				r := setup(t, h)
				r.reg.set(nil, time.Second)
				r.serve()
				client := healthpb.NewHealthClient(r.conn(nil))
				check := func(when string, want healthpb.HealthCheckResponse_ServingStatus) {
					t.Helper()
					for _, name := range names {
						got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
						if err != nil || got.GetStatus() != want {
							t.Errorf("%s: health of %q is %v, %v, want %v", when, name, got.GetStatus(), err, want)
						}
					}
				}
				check("before it is registered", notServing)
				time.Sleep(time.Second)
				synctest.Wait()
				check("registered", serving)
				r.cancel()
				synctest.Wait() // deregistering takes a second
				check("draining", notServing)
				r.wantResult(nil)
			})
		})
	}
}

func TestHealthIsLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := health.NewServer()
		r := newRig(t)
		healthpb.RegisterHealthServer(r.server, h) // not told by WithHealthServer
		r.serve()
		r.cancel()
		synctest.Wait()
		if got := healthOf(t, h, ""); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health is %v", got)
		}
		r.wantResult(nil)
	})
	bubble(t, func(t *testing.T) {
		r := newRig(t, registrar.WithHealthServer(nil)).serve()
		client := healthpb.NewHealthClient(r.conn(nil))
		if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("health without a health service: %v", err)
		}
	})
}

// A client that watches health, as gRPC's client-side health checking does, has
// a stream open that never ends by itself.
func TestHealthWatchersDoNotHoldTheServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, registrar.WithDrainDelay(0)).serve()
		client := r.dial(nil, grpc.WithDefaultServiceConfig(
			`{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "echo"}}`))
		if a := <-get(t.Context(), client); a.err != nil {
			t.Error(a.err)
		}
		if got := r.InHand(); got != 0 {
			t.Errorf("%d calls in hand", got)
		}
		began := time.Now()
		r.cancel()
		r.wantResult(nil)
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}
