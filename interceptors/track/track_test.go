package track_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/track"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// start is a server and a client that is tracked.
func start(t *testing.T, opts ...track.Option) (*testenv.Server, echov1.EchoClient) {
	sys := testenv.New(t)
	server := sys.Start(registry.Instance{ID: "a"})
	return server, echov1.NewEchoClient(sys.Dial("passthrough:///"+server.Addr,
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(nil)),
		grpc.WithChainUnaryInterceptor(track.UnaryClientInterceptor(opts...)),
		grpc.WithChainStreamInterceptor(track.StreamClientInterceptor(opts...))))
}

func TestObserverSeesTheTraceOfACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var traces []track.Trace
		server, client := start(t, track.WithObserver(func(tr track.Trace) { traces = append(traces, tr) }))
		for _, code := range []codes.Code{codes.OK, codes.NotFound} {
			server.OnCall(func(ctx context.Context, _ string) error {
				time.Sleep(time.Second)
				return status.Error(code, "as the test wants it")
			})
			_, err := client.Get(t.Context(), &echov1.GetRequest{})
			got := traces[len(traces)-1]
			if got.Method != echov1.Echo_Get_FullMethodName || got.Duration != time.Second || got.Err != err || len(got.Attempts) != 1 {
				t.Fatalf("trace: %+v", got)
			}
			if a := got.Attempts[0]; a.Target.ID != server.Addr || a.Class != pick.Answered || !a.Ended || status.Code(a.Err) != code {
				t.Errorf("attempt: %+v", a)
			}
		}
	})
}

func TestObserverSeesTheEndOfAStream(t *testing.T) {
	for name, tt := range map[string]struct {
		run  func(context.Context, *testenv.Server, echov1.EchoClient) error
		code codes.Code
	}{
		"server stream": {func(ctx context.Context, _ *testenv.Server, c echov1.EchoClient) error {
			stream, err := c.Stream(ctx, &echov1.StreamRequest{Count: 3})
			for err == nil {
				_, err = stream.Recv()
			}
			if _, again := stream.Recv(); !errors.Is(again, io.EOF) {
				return again
			}
			return err
		}, codes.OK},
		"server stream that fails": {func(ctx context.Context, s *testenv.Server, c echov1.EchoClient) error {
			s.OnCall(testenv.Answer(codes.NotFound))
			stream, err := c.Stream(ctx, &echov1.StreamRequest{})
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		}, codes.NotFound},
		"client stream": {func(ctx context.Context, _ *testenv.Server, c echov1.EchoClient) error {
			stream, err := c.Collect(ctx)
			if err != nil {
				return err
			}
			_, err = stream.CloseAndRecv()
			return err
		}, codes.OK},
		"not opened": {func(ctx context.Context, s *testenv.Server, c echov1.EchoClient) error {
			s.Kill()
			synctest.Wait()
			_, err := c.Chat(ctx)
			return err
		}, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var traces []track.Trace
				server, client := start(t, track.WithObserver(func(tr track.Trace) { traces = append(traces, tr) }))
				err := tt.run(t.Context(), server, client)
				if len(traces) != 1 || status.Code(traces[0].Err) != tt.code {
					t.Errorf("%d traces, %+v; the caller got %v", len(traces), traces, err)
				}
			})
		})
	}
}

// hasRecord fails a call that has no record.
func hasRecord(ctx context.Context) error {
	if pick.FromContext(ctx) == nil {
		return errors.New("no record")
	}
	return nil
}

func TestRecordIsThereForWhateverIsBelow(t *testing.T) {
	invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		return hasRecord(ctx)
	}
	if err := track.UnaryClientInterceptor()(t.Context(), "/a.B/C", nil, nil, nil, invoker); err != nil {
		t.Error(err)
	}
	streamer := func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
		return nil, hasRecord(ctx)
	}
	if _, err := track.StreamClientInterceptor()(t.Context(), &grpc.StreamDesc{}, nil, "/a.B/C", streamer); err != nil {
		t.Error(err)
	}
}

// The record says which calls are unary.
func TestUnaryCallsAreToldFromStreams(t *testing.T) {
	for _, opts := range [][]track.Option{nil, {track.WithObserver(func(track.Trace) {})}} {
		invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			if !pick.FromContext(ctx).Unary() {
				t.Error("a unary call is not said to be one")
			}
			return nil
		}
		streamer := func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
			if pick.FromContext(ctx).Unary() {
				t.Error("a stream is said to be a unary call")
			}
			return nil, nil
		}
		track.UnaryClientInterceptor(opts...)(t.Context(), "/shop.Orders/Pay", nil, nil, nil, invoker)
		track.StreamClientInterceptor(opts...)(t.Context(), &grpc.StreamDesc{}, nil, "/shop.Orders/Watch", streamer)
	}
}
