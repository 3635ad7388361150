package registrar_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/drain"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
)

// wantRefused checks that the call was refused with proof.
func wantRefused(t *testing.T, r *rig, err error, trailer metadata.MD) {
	t.Helper()
	if status.Code(err) != codes.Unavailable || !drain.IsRefusal(err) {
		t.Errorf("error %v", err)
	}
	if marks := r.marks(trailer); !marks.Closing || !marks.NotExecuted {
		t.Errorf("the trailer %v proves %+v", trailer, marks)
	}
}

func TestRefusalCarriesProof(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		client := r.dial(nil)
		r.Refuse()
		a := <-get(t.Context(), client)
		wantRefused(t, r, a.err, a.trailer)
		stream, err := client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		wantRefused(t, r, err, stream.Trailer())
		if got := r.echo.Executed(); got != 0 || r.InHand() != 0 {
			t.Errorf("%d calls executed, %d in hand", got, r.InHand())
		}
	})
}

func TestRefusingIsNotTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		r.Refuse()
		r.cancel()
		synctest.Wait()
		a := <-get(t.Context(), r.dial(nil))
		wantRefused(t, r, a.err, a.trailer)
	})
}

// A call that is on its way to the handler when the server is stopped must not
// be executed: nobody would get the answer.
func TestStopKeepsCallsOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		letIn := make(chan struct{})
		r := newRigWith(t, []grpc.ServerOption{grpc.ChainUnaryInterceptor(
			func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				<-letIn
				return handler(ctx, req)
			})}).serve()
		call := get(t.Context(), r.dial(nil))
		synctest.Wait()
		r.Stop()
		close(letIn)
		synctest.Wait()
		if a := <-call; a.err == nil || r.echo.Executed() != 0 {
			t.Errorf("%v, executed %d times", a.err, r.echo.Executed())
		}
	})
}

// A client that has not heard that the server closes sends calls into it.
func TestCallsWhileClosing(t *testing.T) {
	tests := map[string]struct {
		at      time.Duration // after closing began; the bound is 4s, refusing begins 400ms before
		refused bool
	}{
		"at once":                {0, false},
		"in time":                {3500 * time.Millisecond, false},
		"too late to be waiting": {3700 * time.Millisecond, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, registrar.WithDrainDelay(0), registrar.WithGraceTimeout(4*time.Second)).serve()
				var conn *stallable
				client := r.dial(func(ctx context.Context, addr string) (net.Conn, error) {
					c, err := r.network.Dial(ctx, addr)
					conn = &stallable{Conn: c}
					return conn, err
				})
				if a := <-get(t.Context(), client); a.err != nil {
					t.Fatal(a.err)
				}
				goOn := conn.stall()
				r.cancel()
				synctest.Wait()
				if r.State() != registrar.StateClosing {
					t.Fatalf("state %v", r.State())
				}
				time.Sleep(test.at)
				late := get(t.Context(), client)
				synctest.Wait()
				goOn()
				a := <-late
				if test.refused {
					wantRefused(t, r, a.err, a.trailer)
				} else if marks := r.marks(a.trailer); a.err != nil || !marks.Closing || marks.NotExecuted {
					t.Errorf("%v, trailer %v", a.err, a.trailer)
				}
				r.wantResult(nil)
			})
		})
	}
}

func TestPanicKeepsTheMark(t *testing.T) {
	bubble(t, func(t *testing.T) {
		recovered := recovery.WithRecoveryHandler(func(any) error { return status.Error(codes.Internal, "recovered") })
		r := newRigWith(t, []grpc.ServerOption{
			grpc.ChainUnaryInterceptor(recovery.UnaryServerInterceptor(recovered)),
			grpc.ChainStreamInterceptor(recovery.StreamServerInterceptor(recovered)),
		}).serve()
		r.echo.OnCall(func(context.Context, string) error { panic("as the test wants it") })
		client := r.dial(nil)
		r.cancel()
		synctest.Wait()
		a := <-get(t.Context(), client)
		if marks := r.marks(a.trailer); status.Code(a.err) != codes.Internal || !marks.Closing || marks.NotExecuted {
			t.Errorf("unary: %v, trailer %v", a.err, a.trailer)
		}
		stream, err := client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Internal || !r.marks(stream.Trailer()).Closing {
			t.Errorf("stream: %v, trailer %v", err, stream.Trailer())
		}
		if r.InHand() != 0 {
			t.Errorf("%d in hand", r.InHand())
		}
	})
}

// A handler that relays what it got from a server below, even if that was this
// server itself, has executed its own call.
func TestRelayedMarksProveNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		inst := r.Instance()
		own, other := drain.NotExecuted(inst.ID, inst.Life), drain.NotExecuted("other", "life")
		client := r.dial(nil)
		relay := func(trailer metadata.MD) drain.Marks {
			r.echo.OnCall(func(ctx context.Context, _ string) error {
				grpc.SetTrailer(ctx, trailer)
				return drain.Refusal(service, inst.ID, inst.Life)
			})
			return r.marks((<-get(t.Context(), client)).trailer)
		}
		// Nobody has a mark of ours to relay before the drain.
		if got := relay(other); got != (drain.Marks{}) {
			t.Errorf("before the drain a relayed trailer proves %+v", got)
		}
		r.cancel()
		synctest.Wait()
		for _, trailer := range []metadata.MD{own, other, metadata.Join(own, other)} {
			if got := relay(trailer); got != (drain.Marks{Closing: true}) {
				t.Errorf("while draining the relayed trailer %v proves %+v", trailer, got)
			}
		}
	})
}

func TestHandlersLearnOfTheDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		r.echo.OnCall(func(ctx context.Context, _ string) error {
			<-registrar.Draining(ctx)
			return status.Error(codes.Aborted, "please call again")
		})
		client := r.dial(nil)
		call := get(t.Context(), client)
		stream, err := client.Stream(t.Context(), &echov1.StreamRequest{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if got := r.InHand(); got != 2 {
			t.Errorf("%d in hand", got)
		}
		r.cancel()
		synctest.Wait()
		if a := <-call; status.Code(a.err) != codes.Aborted || a.took != time.Hour {
			t.Errorf("unary: %v after %v", a.err, a.took)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Aborted {
			t.Errorf("stream: %v", err)
		}
		if registrar.Draining(t.Context()) != nil {
			t.Error("a context without a call has a channel")
		}
	})
}

func TestServerWithoutServerOptions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, allowed := range []bool{false, true} {
			r := newRig(t)
			var opts []registrar.Option
			if allowed {
				opts = append(opts, registrar.WithForeignServer())
			}
			r.Registrar = registrar.New(r.reg, r.Instance(), opts...)
			t.Cleanup(r.Stop)
			r.server = grpc.NewServer()
			echov1.RegisterEchoServer(r.server, r.echo)
			r.serve()
			if !allowed {
				if err := <-r.result; err == nil {
					t.Error("no error")
				}
				if asked, _ := r.reg.count(); asked != 0 {
					t.Error("it was registered")
				}
				continue
			}
			client := r.dial(nil)
			r.cancel()
			synctest.Wait()
			if a := <-get(t.Context(), client); a.err != nil || len(a.trailer) != 0 {
				t.Errorf("%v, trailer %v", a.err, a.trailer)
			}
			r.wantResult(nil)
		}
	})
}

func BenchmarkUnaryInterceptor(b *testing.B) {
	r := registrar.New(nil, registry.Instance{Service: service})
	unary := registrar.Unary(r)
	info := &grpc.UnaryServerInfo{FullMethod: echov1.Echo_Get_FullMethodName}
	handler := func(context.Context, any) (any, error) { return nil, nil }
	b.ReportAllocs()
	for b.Loop() {
		if _, err := unary(b.Context(), nil, info, handler); err != nil {
			b.Fatal(err)
		}
	}
}
