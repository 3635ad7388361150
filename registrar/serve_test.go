package registrar_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
)

var errDown = errors.New("the registry is down")

// bubble runs f in a synctest bubble.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestServeGoesThroughTheWholeSequence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := health.NewServer()
		r := newRig(t, registrar.WithHealthServer(h))
		// The observer runs inside the change: it sees what came before it.
		r.reg.set(nil, 2*time.Second)
		client := r.serve().dial(nil)
		r.echo.OnCall(testenv.Delay(20 * time.Second))
		time.Sleep(10 * time.Second)
		inHand := get(t.Context(), client) // ends at 30s, between Closing (19s) and its bound (34s)
		synctest.Wait()
		r.cancel()
		r.wantResult(nil)
		if a := <-inHand; a.err != nil || !r.marks(a.trailer).Closing {
			t.Errorf("the call in hand: %v, trailer %v", a.err, a.trailer)
		}
		if r.InHand() != 0 || r.State() != registrar.StateStopped {
			t.Errorf("%d in hand in state %v", r.InHand(), r.State())
		}
		r.journal.check(t,
			"0s listening",
			"0s register",
			"2s registered",
			"10s draining",
			"10s deregister",
			"19s closing", // 2s for the registry and a drain delay of 7s
			"19s listener closed",
			"30s stopped",
		)
	})
}

func TestRegistersWhatItIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		snap, err := r.reg.Fetch(t.Context(), service)
		if err != nil || len(snap.Instances) != 1 {
			t.Fatalf("%v, %v", snap, err)
		}
		got := snap.Instances[0]
		if got.ID == "" || got.Life == "" || got.Addrs[0] != addr || got.Weight != 5 || !got.Equal(r.Instance()) {
			t.Errorf("registered %+v, Instance says %+v", got, r.Instance())
		}
		one := registrar.New(r.reg, registry.Instance{Service: service, Life: "mine"}).Instance()
		two := registrar.New(r.reg, registry.Instance{Service: service, Life: "mine"}).Instance()
		if one.ID == two.ID || one.Life == two.Life || one.Life == "mine" {
			t.Errorf("not unique: %+v and %+v", one, two)
		}
		if got := registrar.New(r.reg, registry.Instance{Service: service, ID: "mine"}).Instance().ID; got != "mine" {
			t.Errorf("the ID given was replaced by %q", got)
		}
	})
}

func TestCallsInHandFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, registrar.WithDrainDelay(0))
		r.echo.OnCall(testenv.Delay(3 * time.Second))
		client := r.serve().dial(nil)
		var calls []<-chan answer
		for range 100 {
			calls = append(calls, get(t.Context(), client))
		}
		stream, err := client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := r.InHand(); got != 101 {
			t.Errorf("%d calls in hand, want 101", got)
		}
		r.cancel()
		time.Sleep(4 * time.Second)
		if err := stream.Send(&echov1.ChatRequest{Message: "still there?"}); err != nil {
			t.Error(err)
		}
		if got, err := stream.Recv(); err != nil || got.GetMessage() != "still there?" {
			t.Errorf("the open stream: %v, %v", got, err)
		}
		stream.CloseSend()
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) || !r.marks(stream.Trailer()).Closing {
			t.Errorf("the end of the stream: %v, trailer %v", err, stream.Trailer())
		}
		r.wantResult(nil)
		for _, call := range calls {
			if a := <-call; a.err != nil || !r.marks(a.trailer).Closing || a.took != 3*time.Second {
				t.Fatalf("after %v: %v, trailer %v", a.took, a.err, a.trailer)
			}
		}
	})
}

func TestServesOnWhileDraining(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		client := r.dial(nil)
		if a := <-get(t.Context(), client); a.err != nil || len(a.trailer) != 0 {
			t.Errorf("before: %v, trailer %v", a.err, a.trailer)
		}
		r.cancel()
		synctest.Wait()
		if _, holds := r.reg.count(); holds != 0 || r.State() != registrar.StateDraining {
			t.Errorf("%d registrations in state %v", holds, r.State())
		}
		for range 6 { // until just before the delay of 7s is over
			time.Sleep(time.Second)
			a := <-get(t.Context(), r.dial(nil)) // new connections, too
			if marks := r.marks(a.trailer); a.err != nil || !marks.Closing || marks.NotExecuted {
				t.Errorf("while draining: %v, trailer %v", a.err, a.trailer)
			}
		}
		r.wantResult(nil)
	})
}

func TestHandlerThatHangsIsCutOffAtTheBound(t *testing.T) {
	for name, before := range map[string][]grpc.ServerOption{
		"":                             nil,
		"with grpc.WaitForHandlers":    {grpc.WaitForHandlers(true)},
		"with one stream a connection": {grpc.MaxConcurrentStreams(1)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRigWith(t, before, registrar.WithDrainDelay(0), registrar.WithGraceTimeout(10*time.Second))
				hung := make(chan struct{}) // a handler that does not even look at its context
				defer close(hung)
				r.serve()
				r.echo.OnCall(func(context.Context, string) error { <-hung; return nil })
				lost := get(t.Context(), r.dial(nil))
				synctest.Wait()
				r.echo.OnCall(testenv.Delay(5 * time.Second))
				unharmed := get(t.Context(), r.dial(nil))
				synctest.Wait()
				began := time.Now()
				r.cancel()
				r.wantResult(registrar.ErrForced)
				if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
					t.Errorf("stopped after %v", took)
				}
				if a := <-lost; status.Code(a.err) != codes.Unavailable {
					t.Errorf("the call that hung: %v", a.err)
				}
				if a := <-unharmed; a.err != nil {
					t.Errorf("the other call: %v", a.err)
				}
			})
		})
	}
}

func TestErrForcedCountsWhatWasCutOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, registrar.WithGraceTimeout(0), registrar.WithDrainDelay(0)).serve()
		r.echo.OnCall(testenv.Hang)
		client := r.dial(nil)
		get(t.Context(), client)
		get(t.Context(), client)
		synctest.Wait()
		r.cancel()
		if err := <-r.result; !errors.Is(err, registrar.ErrForced) || !strings.Contains(err.Error(), "2 of them") {
			t.Errorf("Serve returned %v", err)
		}
	})
}

func TestRegistrationFails(t *testing.T) {
	tests := map[string]struct {
		err   error
		after time.Duration
		takes time.Duration // of each try
	}{
		"the registry is down":       {errDown, 10 * time.Second, 0},
		"the registry hangs":         {errDown, 10 * time.Second, time.Hour},
		"useless to try again":       {registry.ErrInvalid, 0, 0},
		"registered by another part": {registry.ErrDuplicate, 0, 0},
		"the registry was closed":    {registry.ErrClosed, 0, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				r.reg.set(test.err, test.takes)
				r.echo.OnCall(testenv.Delay(12 * time.Second))
				inHand := make(chan answer, 1)
				go func() {
					inHand <- <-get(t.Context(), r.dial(nil, grpc.WithDefaultCallOptions(grpc.WaitForReady(true))))
				}()
				if test.after == 0 {
					r.serve()
				} else {
					go func() { r.result <- r.Serve(r.ctx, r.server, r.lis) }()
				}
				err := <-r.result
				if !errors.Is(err, test.err) || test.after > 0 && !strings.Contains(err.Error(), "within 10s") {
					t.Errorf("Serve returned %v", err)
				}
				asked, holds := r.reg.count()
				if test.after > 0 && test.takes == 0 && asked < 3 || test.after == 0 && asked != 1 || holds != 0 {
					t.Errorf("asked %d times, %d registrations left", asked, holds)
				}
				if test.after > 0 {
					// One who knew the address is served all the same.
					if a := <-inHand; a.err != nil {
						t.Errorf("the call in hand: %v", a.err)
					}
					if took := time.Since(r.journal.began); took != 12*time.Second {
						t.Errorf("ended after %v", took)
					}
				}
				if _, err := r.network.Dial(t.Context(), addr); err == nil {
					t.Error("it still listens")
				}
				if err := r.Shutdown(t.Context()); !errors.Is(err, test.err) {
					t.Errorf("Shutdown afterwards: %v", err)
				}
			})
		})
	}
}

func TestRegistersInBackground(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := health.NewServer()
		var log bytes.Buffer // read when nobody writes any more
		r := newRig(t, registrar.WithRegisterInBackground(), registrar.WithHealthServer(h),
			registrar.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		r.reg.set(errDown, 0)
		client := r.serve().dial(nil)
		time.Sleep(5 * time.Minute)
		if a := <-get(t.Context(), client); a.err != nil || r.State() != registrar.StateListening {
			t.Errorf("while the registry is down: %v in state %v", a.err, r.State())
		}
		if got := healthOf(t, h, ""); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health is %v", got)
		}
		if asked, _ := r.reg.count(); asked < 5*60/5 || asked > 200 {
			t.Errorf("asked %d times in 5 minutes", asked)
		}
		r.reg.set(nil, 0)
		time.Sleep(5 * time.Second) // the longest backoff
		if _, holds := r.reg.count(); holds != 1 || r.State() != registrar.StateRegistered {
			t.Errorf("%d registrations in state %v", holds, r.State())
		}
		r.cancel()
		r.wantResult(nil)
		if got := strings.Count(log.String(), errDown.Error()); got != 1 {
			t.Errorf("the same failure was logged %d times:\n%s", got, log.String())
		}
	})
}

func TestGoingDownWhileRegistering(t *testing.T) {
	for _, background := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			var opts []registrar.Option
			if background {
				opts = append(opts, registrar.WithRegisterInBackground())
			}
			r := newRig(t, opts...)
			r.reg.set(errDown, time.Hour)
			r.serve()
			time.Sleep(time.Second)
			r.cancel()
			r.wantResult(nil)
			r.journal.check(t, "0s listening", "0s register", "1s draining", "1s closing", "1s listener closed", "1s stopped")
		})
	}
}

func TestDeregistrationFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		r.conn(nil).Connect()
		r.reg.set(errDown, time.Hour)
		r.cancel()
		r.wantResult(nil)
		r.journal.check(t, "0s listening", "0s register", "0s registered", "0s draining", "0s deregister",
			"10s closing", "10s listener closed", "10s stopped") // 3s for the registry, 7s drain delay
	})
}

func TestEventsArePassedOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var got []registry.EventKind
		r := newRig(t, registrar.WithEventObserver(func(e registry.Event) { got = append(got, e.Kind) }))
		// A registration that never closes its events holds nothing up.
		r.reg.events = make(chan registry.Event, 4)
		r.serve()
		r.reg.events <- registry.Event{Kind: registry.Lost, Err: errDown}
		r.reg.events <- registry.Event{Kind: registry.Registered}
		synctest.Wait()
		r.reg.events <- registry.Event{Kind: registry.Collision}
		r.reg.events <- registry.Event{Kind: registry.Deregistered}
		r.cancel()
		r.wantResult(nil)
		want := []registry.EventKind{registry.Lost, registry.Registered, registry.Collision, registry.Deregistered}
		if len(got) != len(want) {
			t.Fatalf("events %v, want %v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("events %v, want %v", got, want)
			}
		}
	})
}

func TestClientsMayPing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		client := r.dial(nil, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 2 * time.Second, PermitWithoutStream: true,
		}))
		for range 3 {
			if a := <-get(t.Context(), client); a.err != nil {
				t.Error(a.err)
			}
			time.Sleep(20 * time.Minute)
		}
		if got := r.network.Dials(addr); got != 1 {
			t.Errorf("the client had to connect %d times", got)
		}
	})
}
