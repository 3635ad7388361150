package registrar_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
)

// fixed is a rig with the ID "fixed", and what it logs, to be read at the end.
func newFixed(t *testing.T, on *rig, listen string, opts ...registrar.Option) (*rig, *strings.Builder) {
	t.Helper()
	r, log := newRig(t), &strings.Builder{}
	if on != nil { // the same world
		r.lis.Close()
		r.network = on.network
		r.reg.Registry.Close()
		r.reg.Registry = on.reg.Registry.Client()
		lis, err := r.network.Listen(listen)
		if err != nil {
			t.Fatal(err)
		}
		r.lis = &tellingListener{Listener: lis, journal: r.journal}
	}
	dial := func(ctx context.Context, addr string) (net.Conn, error) { return r.network.Dial(ctx, addr) }
	r.Registrar = registrar.New(r.reg, registry.Instance{Service: service, ID: "fixed"}, append([]registrar.Option{
		registrar.WithDrainDelay(0), registrar.WithLogger(slog.New(slog.NewTextHandler(log, nil))),
		registrar.WithSelfProbe(registrar.ProbeWarn, grpc.WithContextDialer(dial)),
	}, opts...)...)
	t.Cleanup(r.Stop)
	r.useRegistrar()
	return r, log
}

const other = "10.0.0.2:9000"

// lives are what the registry shows of the service.
func lives(r *rig) map[string]string {
	r.t.Helper()
	snap, err := r.reg.Fetch(r.t.Context(), service)
	if err != nil {
		r.t.Fatal(err)
	}
	lives := map[string]string{}
	for _, inst := range snap.Instances {
		lives[inst.ID] = inst.Life
	}
	return lives
}

func TestIDOfALiveProcessIsNotTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first, _ := newFixed(t, nil, addr)
		first.serve()
		second, _ := newFixed(t, first, other)
		go func() { second.result <- second.Serve(second.ctx, second.server, second.lis) }()
		if err := <-second.result; !errors.Is(err, registrar.ErrIDTaken) || !strings.Contains(err.Error(), addr) {
			t.Errorf("Serve returned %v", err)
		}
		if got := lives(first); len(got) != 1 || got["fixed"] != first.Instance().Life {
			t.Errorf("registered is %v", got)
		}
	})
}

// The predecessor goes down while the successor comes up.
func TestIDIsTakenWhenItIsFree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first, _ := newFixed(t, nil, addr)
		first.serve()
		second, _ := newFixed(t, first, other, registrar.WithRegisterInBackground())
		second.serve()
		time.Sleep(3 * time.Second)
		if second.State() != registrar.StateListening {
			t.Errorf("state %v", second.State())
		}
		first.cancel()
		first.wantResult(nil)
		time.Sleep(time.Minute)
		if got := lives(first); got["fixed"] != second.Instance().Life {
			t.Errorf("registered is %v", got)
		}
	})
}

func TestUniqueIDInsteadOfOneThatIsTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first, _ := newFixed(t, nil, addr)
		first.serve()
		second, log := newFixed(t, first, other, registrar.WithUniqueID())
		second.serve()
		id := second.Instance().ID
		if got := lives(first); !strings.HasPrefix(id, "fixed-") || len(got) != 2 || got["fixed"] != first.Instance().Life || got[id] != second.Instance().Life {
			t.Errorf("registered is %v, and the second one is %q", got, id)
		}
		second.Refuse()
		conn := second.conn(nil)
		conn.Close()
		client := second.dial(func(ctx context.Context, _ string) (net.Conn, error) { return second.network.Dial(ctx, other) })
		a := <-get(t.Context(), client)
		wantRefused(t, second, a.err, a.trailer) // in its new name
		second.cancel()
		second.wantResult(nil)
		if !strings.Contains(log.String(), "another process has the ID") {
			t.Errorf("it logged %s", log)
		}
		if got := lives(first); got["fixed"] == "" {
			t.Errorf("when the second one has gone: %v", got)
		}
	})
}

// What a process left behind that was killed is replaced, wherever it was and
// whoever is there now; with a warning if that might still be it.
func TestIDOfADeadProcessIsTaken(t *testing.T) {
	tests := map[string]struct {
		at    string // where it was
		now   func(r *rig)
		opts  []registrar.Option
		warns bool
	}{
		"the same address":        {addr, nil, nil, false},
		"nobody there":            {other, nil, nil, false},
		"its successor elsewhere": {other, func(r *rig) { r.serveAt(other, identified(r)) }, nil, false},
		"somebody else there": {other, func(r *rig) {
			srv := grpc.NewServer()
			healthpb.RegisterHealthServer(srv, health.NewServer())
			r.serveAt(other, srv)
		}, nil, true},
		"nobody can be asked": {other, nil, []registrar.Option{registrar.WithSelfProbe(registrar.ProbeOff)}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, log := newFixed(t, nil, addr, test.opts...)
				dead := registry.Instance{Service: service, ID: "fixed", Life: "dead", Addrs: []string{test.at}}
				if _, err := r.reg.Registry.Client().Register(t.Context(), dead); err != nil {
					t.Fatal(err)
				}
				if test.now != nil {
					test.now(r)
				}
				r.serve()
				if got := lives(r); len(got) != 1 || got["fixed"] != r.Instance().Life {
					t.Errorf("registered is %v in state %v", got, r.State())
				}
				r.cancel()
				r.wantResult(nil)
				if warned := strings.Contains(log.String(), "may be another process"); warned != test.warns {
					t.Errorf("warned: %v, want %v: %s", warned, test.warns, log)
				}
			})
		})
	}
}

// identified is a server of another process that says who it is.
func identified(r *rig) *grpc.Server {
	srv := grpc.NewServer(registrar.New(r.reg, registry.Instance{Service: service, ID: "somebody"}).ServerOptions()...)
	healthpb.RegisterHealthServer(srv, health.NewServer())
	return srv
}

func TestCollisionIsAnErrorInTheLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, log := newFixed(t, nil, addr)
		r.serve()
		late := registry.Instance{Service: service, ID: "fixed", Life: "late", Addrs: []string{other}}
		if _, err := r.reg.Registry.Client().Register(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.cancel()
		r.wantResult(nil)
		if !strings.Contains(log.String(), `level=ERROR msg="registrar: registration: collision"`) {
			t.Errorf("it logged %s", log)
		}
	})
}

// Whose ID is taken while it serves takes another, if it may, serves on and leaves
// the other's alone.
func TestIDThatIsTakenLater(t *testing.T) {
	for name, opts := range map[string][]registrar.Option{"unique": {registrar.WithUniqueID()}, "not unique": nil} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, log := newFixed(t, nil, addr, opts...)
				r.serve()
				late := registry.Instance{Service: service, ID: "fixed", Life: "late", Addrs: []string{other}}
				if _, err := r.reg.Registry.Client().Register(t.Context(), late); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				err := r.SetWeight(t.Context(), 7)
				got := lives(r)
				if name == "unique" {
					if err != nil {
						t.Error(err)
					}
					id := r.Instance().ID
					if len(got) != 2 || id == "fixed" || got[id] != r.Instance().Life || got["fixed"] != "late" {
						t.Errorf("registered are %v, the server is %s; it logged %s", got, id, log)
					}
				} else if len(got) != 1 || got["fixed"] != "late" || !errors.Is(err, registry.ErrTaken) {
					t.Errorf("registered are %v, and to set the weight said %v", got, err)
				}
				if a := <-get(t.Context(), r.dial(nil)); a.err != nil || r.State() != registrar.StateRegistered {
					t.Errorf("a call in state %v: %v", r.State(), a.err)
				}
				r.cancel()
				r.wantResult(nil)
				if got := lives(r); len(got) != 1 || got["fixed"] != "late" {
					t.Errorf("after the end: %v", got)
				}
			})
		})
	}
}

// Who is told to go while it looks for another ID goes.
func TestShutdownWhileTakingAnotherID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _ := newFixed(t, nil, addr, registrar.WithUniqueID())
		r.serve()
		r.reg.set(errDown, time.Second)
		late := registry.Instance{Service: service, ID: "fixed", Life: "late", Addrs: []string{other}}
		if _, err := r.reg.Registry.Client().Register(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if a := <-get(t.Context(), r.dial(nil)); a.err != nil {
			t.Errorf("a call meanwhile: %v", a.err)
		}
		r.cancel()
		r.wantResult(nil)
		if got := lives(r); len(got) != 1 || got["fixed"] != "late" {
			t.Errorf("after the end: %v", got)
		}
	})
}
