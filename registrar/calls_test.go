package registrar_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
)

func TestSecondServe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		client := r.dial(nil)
		if err := r.Serve(t.Context(), r.server, r.lis); !errors.Is(err, registrar.ErrStarted) {
			t.Errorf("Serve while serving: %v", err)
		}
		if err := r.Start(t.Context(), addr); !errors.Is(err, registrar.ErrStarted) {
			t.Errorf("Start while serving: %v", err)
		}
		if a := <-get(t.Context(), client); a.err != nil {
			t.Errorf("the first one suffered: %v", a.err)
		}
		r.cancel()
		synctest.Wait()
		for _, when := range []string{"draining", "stopped"} {
			if err := r.Serve(t.Context(), r.server, r.lis); !errors.Is(err, registrar.ErrStopped) {
				t.Errorf("Serve when %s: %v", when, err)
			}
			if err := r.Start(t.Context(), addr); !errors.Is(err, registrar.ErrStopped) {
				t.Errorf("Start when %s: %v", when, err)
			}
			if when == "draining" {
				if a := <-get(t.Context(), client); a.err != nil {
					t.Errorf("the first one suffered: %v", a.err)
				}
				r.wantResult(nil)
			}
		}
	})
}

func TestDownBeforeUp(t *testing.T) {
	for name, end := range map[string]func(r *rig) error{
		"Shutdown": func(r *rig) error { return r.Shutdown(t.Context()) },
		"Stop":     func(r *rig) error { r.Stop(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				defer r.lis.Close()
				for range 2 {
					if err := end(r); err != nil || r.State() != registrar.StateStopped {
						t.Errorf("%v in state %v", err, r.State())
					}
				}
				r.serve().wantResult(registrar.ErrStopped)
				if asked, _ := r.reg.count(); asked != 0 {
					t.Error("it was registered")
				}
			})
		})
	}
}

func TestContextEndedBeforeServe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.cancel()
		r.serve().wantResult(nil)
		if _, holds := r.reg.count(); holds != 0 || time.Since(r.journal.began) != 0 {
			t.Errorf("%d registrations left after %v", holds, time.Since(r.journal.began))
		}
	})
}

func TestStopSkipsWhatWaits(t *testing.T) {
	hang := func(r *rig) { r.reg.set(nil, time.Hour) }
	tests := map[string]struct {
		before, after func(r *rig) // of serving
		state         registrar.State
		takes         time.Duration
	}{
		"registering":                          {hang, nil, registrar.StateListening, 0},
		"registered":                           {nil, nil, registrar.StateRegistered, 0},
		"registered, in a registry that hangs": {nil, hang, registrar.StateRegistered, time.Second},
		"deregistering":                        {nil, func(r *rig) { hang(r); r.cancel() }, registrar.StateDraining, 0},
		"in the drain delay":                   {nil, func(r *rig) { r.cancel(); time.Sleep(time.Second) }, registrar.StateDraining, 0},
		"closing":                              {nil, func(r *rig) { r.cancel(); time.Sleep(8 * time.Second) }, registrar.StateClosing, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				if test.before != nil {
					test.before(r)
				}
				r.serve()
				r.echo.OnCall(testenv.Hang)
				call := get(t.Context(), r.dial(nil))
				synctest.Wait()
				if test.after != nil {
					test.after(r)
					synctest.Wait()
				}
				if r.State() != test.state {
					t.Fatalf("state %v, want %v", r.State(), test.state)
				}
				began := time.Now()
				var stops sync.WaitGroup
				for range 3 {
					stops.Go(r.Stop)
				}
				stops.Wait()
				if took := time.Since(began); took != test.takes || r.State() != registrar.StateStopped {
					t.Errorf("it took %v to state %v, want %v", took, r.State(), test.takes)
				}
				r.wantResult(registrar.ErrForced)
				if a := <-call; a.err == nil {
					t.Error("the call that hung was answered")
				}
				if _, holds := r.reg.count(); holds != 0 {
					t.Error("it is still registered")
				}
			})
		})
	}
}

func TestShutdown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() {
				if err := r.Shutdown(t.Context()); err != nil || r.State() != registrar.StateStopped {
					t.Errorf("%v in state %v", err, r.State())
				}
			})
		}
		calls.Wait()
		r.wantResult(nil)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Shutdown(ended); err != nil {
			t.Errorf("when all is over: %v", err)
		}
	})
}

func TestShutdownKeepsItsDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.serve()
		r.echo.OnCall(testenv.Hang)
		call := get(t.Context(), r.dial(nil))
		synctest.Wait()
		r.reg.set(nil, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if err := r.Shutdown(ctx); !errors.Is(err, registrar.ErrForced) {
			t.Errorf("Shutdown returned %v", err)
		}
		if a := <-call; a.err == nil {
			t.Error("the call that hung was answered")
		}
		r.journal.check(t, "0s listening", "0s register", "0s registered",
			"0s draining", "0s deregister", // half of 4s
			"3s closing", "3s listener closed", // half of 2s
			"4s stopped")
	})
}

// A program that drains and is then told by when to be down still lets its calls
// finish.
func TestShutdownHurriesADrainThatHasBegun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		client := r.dial(nil)
		r.cancel()
		time.Sleep(time.Second)
		r.echo.OnCall(testenv.Delay(3 * time.Second))
		inHand := get(t.Context(), client) // until 4s
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown returned %v", err)
		}
		if a := <-inHand; a.err != nil {
			t.Errorf("the call in hand: %v", a.err)
		}
		r.wantResult(nil)
		r.journal.check(t, "0s listening", "0s register", "0s registered", "0s draining", "0s deregister",
			"3s closing", "3s listener closed", // half of 4s
			"4s stopped")
	})
}

func TestShutdownIsCancelled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := r.Shutdown(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, registrar.ErrForced) {
			t.Errorf("Shutdown returned %v", err)
		}
		if took := time.Since(r.journal.began); took != time.Second {
			t.Errorf("it took %v", took)
		}
		r.wantResult(nil)
	})
}

func TestShutdownWithoutAnyTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		r.reg.set(nil, 300*time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 0)
		defer cancel()
		if err := r.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown returned %v", err)
		}
		// The registry was told.
		r.journal.check(t, "0s listening", "0s register", "0s registered", "0s draining", "0s deregister",
			"300ms closing", "300ms listener closed", "300ms stopped")
	})
}

func TestMistakes(t *testing.T) {
	inst := registry.Instance{Service: service}
	tests := map[string]struct {
		reg  registrar.Registry
		inst registry.Instance
		opt  registrar.Option
		want string
	}{
		"no registry":         {nil, inst, nil, "no registry"},
		"no service":          {&slowRegistry{}, registry.Instance{}, nil, "service is empty"},
		"bad metadata":        {&slowRegistry{}, registry.Instance{Service: service, Metadata: map[string]string{"life": "mine"}}, nil, `metadata key "life"`},
		"register timeout":    {&slowRegistry{}, inst, registrar.WithRegisterTimeout(0), "WithRegisterTimeout(0s)"},
		"deregister timeout":  {&slowRegistry{}, inst, registrar.WithDeregisterTimeout(-1), "WithDeregisterTimeout(-1ns)"},
		"drain delay":         {&slowRegistry{}, inst, registrar.WithDrainDelay(-time.Second), "WithDrainDelay(-1s)"},
		"grace timeout":       {&slowRegistry{}, inst, registrar.WithGraceTimeout(-time.Second), "WithGraceTimeout(-1s)"},
		"slow start":          {&slowRegistry{}, inst, registrar.WithSlowStart(0, 0.1), "WithSlowStart(0s, 0.1)"},
		"slow start's share":  {&slowRegistry{}, inst, registrar.WithSlowStart(time.Minute, 1), "the share between 0 and 1"},
		"slow start's weight": {&slowRegistry{}, inst, registrar.WithSlowStart(time.Minute, 0.1), "a weight of 1 is too small"},
		"address":             {&slowRegistry{}, inst, registrar.WithAdvertise("a:b:c"), "WithAdvertise"},
		"address in Instance": {&slowRegistry{}, registry.Instance{Service: service, Addrs: []string{"nonsense"}}, nil, "nonsense"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				for _, what := range []string{"Serve", "Start"} {
					r := newRig(t)
					opt := test.opt
					if opt == nil {
						opt = registrar.WithLogger(nil)
					}
					r.Registrar = registrar.New(test.reg, test.inst, opt)
					r.server = grpc.NewServer(r.ServerOptions()...)
					var err error
					if what == "Serve" {
						err = r.Serve(t.Context(), r.server, r.lis)
					} else {
						err = r.Start(t.Context(), addr, r.server)
						r.lis.Close()
					}
					if err == nil || !strings.Contains(err.Error(), test.want) {
						t.Errorf("%s returned %v, want something with %q", what, err, test.want)
					}
					if _, err := r.network.Dial(t.Context(), addr); err == nil {
						t.Error("it listens")
					}
					if got := r.server.Serve(r.lis); !errors.Is(got, grpc.ErrServerStopped) {
						t.Errorf("the server was not stopped: %v", got)
					}
					if again := r.Shutdown(t.Context()); again == nil || r.State() != registrar.StateStopped {
						t.Errorf("Shutdown in state %v: %v", r.State(), again)
					}
				}
			})
		})
	}
}

func TestNothingToServe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		defer r.lis.Close()
		if err := r.Serve(t.Context(), nil, r.lis); err == nil {
			t.Error("Serve without a server: no error")
		}
		if err := r.Serve(t.Context(), r.server, nil); err == nil {
			t.Error("Serve without a listener: no error")
		}
		if err := r.Start(t.Context(), addr, nil); err == nil {
			t.Error("Start with a nil server: no error")
		}
		r.serve() // nothing has begun yet
		if r.State() != registrar.StateRegistered {
			t.Errorf("state %v", r.State())
		}
	})
}
