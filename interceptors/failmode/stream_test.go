package failmode_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

var threeMessages = &echov1.StreamRequest{Message: "hello", Count: 3, IntervalMs: 10}

// drainStream reads a stream to its end and returns who served it.
func drainStream(stream grpc.ServerStreamingClient[echov1.StreamResponse]) (by string, messages int, err error) {
	for ; ; messages++ {
		got, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return by, messages, nil
		}
		if err != nil {
			return by, messages, err
		}
		if by += got.GetInstanceId(); got.GetMessage() != "hello" {
			return by, messages, errors.New("another message: " + got.GetMessage())
		}
	}
}

func TestServerStreamIsOpenedElsewhereUntilItsFirstMessage(t *testing.T) {
	for name, hook := range map[string]func(*testenv.Server) testenv.Hook{
		"unavailable": func(*testenv.Server) testenv.Hook { return testenv.Answer(codes.Unavailable) },
		"killed":      kill,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "abc", failmode.Failover)
				for _, id := range []string{"a", "b"} {
					w.server(id).OnCall(hook(w.server(id)))
				}
				for range 4 {
					stream, err := w.client.Stream(t.Context(), threeMessages)
					if err != nil {
						t.Fatal(err)
					}
					if by, n, err := drainStream(stream); err != nil || by != "ccc" || n != 3 {
						t.Errorf("%d messages by %q, %v", n, by, err)
					}
					if events := w.take(); events[len(events)-1].Reason != failmode.ReasonSucceeded {
						t.Errorf("the last attempt: %+v", events[len(events)-1])
					}
				}
			})
		})
	}
}

func TestServerStreamIsNotResumedAfterItsFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover)
		stream, err := w.client.Stream(t.Context(), threeMessages)
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		w.server(first.GetInstanceId()).Kill()
		_, _, err = drainStream(stream)
		failed, ok := errors.AsType[*failmode.Error](err)
		if !ok || failed.Reason != failmode.ReasonBegun || status.Code(err) != codes.Unavailable || w.executed() != 1 {
			t.Errorf("%d executed, error: %v", w.executed(), err)
		}
		if _, again := stream.Recv(); again != err {
			t.Errorf("the second time: %v, want the same", again)
		}
	})
}

func TestStreamFailsWhenAllInstancesDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover)
		w.all(func(*testenv.Server) testenv.Hook { return testenv.Answer(codes.Unavailable) })
		stream, err := w.client.Stream(t.Context(), threeMessages)
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		if failed, ok := errors.AsType[*failmode.Error](err); !ok || len(failed.Attempts) != 3 || w.executed() != 3 {
			t.Errorf("%d executed, %v", w.executed(), err)
		}
	})
}

func TestStreamsAreOpenedLikeUnaryCalls(t *testing.T) {
	open := map[string]func(context.Context, echov1.EchoClient) error{
		"server": func(ctx context.Context, c echov1.EchoClient) error {
			stream, err := c.Stream(ctx, threeMessages)
			if err != nil {
				return err
			}
			_, _, err = drainStream(stream)
			return err
		},
		"client": func(ctx context.Context, c echov1.EchoClient) error {
			stream, err := c.Collect(ctx)
			if err != nil {
				return err
			}
			stream.Send(&echov1.CollectRequest{})
			_, err = stream.CloseAndRecv()
			return err
		},
		"bidi": func(ctx context.Context, c echov1.EchoClient) error {
			stream, err := c.Chat(ctx)
			if err != nil {
				return err
			}
			stream.Send(&echov1.ChatRequest{})
			if _, err := stream.Recv(); err != nil {
				return err
			}
			stream.CloseSend()
			if _, err = stream.Recv(); errors.Is(err, io.EOF) {
				return nil
			}
			return err
		},
	}
	for kind, call := range open {
		for _, comesBack := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "a", failmode.Failover)
				w.dial(append(w.intercept(failmode.Failover), fast)...)
				w.server("a").Kill()
				time.Sleep(time.Second)
				var restart sync.WaitGroup
				if comesBack {
					restart.Go(func() { time.Sleep(20 * ms); w.server("a").Restart() })
				}
				err := call(t.Context(), w.client)
				restart.Wait()
				if comesBack != (err == nil) || !comesBack && status.Code(err) != codes.Unavailable {
					t.Errorf("%s stream, comes back %t: %v", kind, comesBack, err)
				}
				if events := w.take(); events[0].Class != pick.NeverPicked || comesBack != (events[len(events)-1].Err == nil) {
					t.Errorf("%s stream, comes back %t: %v", kind, comesBack, events)
				}
			})
		}
	}
}

func TestClientAndBidiStreamsAreNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "abc", failmode.Failover, failmode.Idempotent(true))
		w.all(kill)
		collect, err := w.client.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		collect.Send(&echov1.CollectRequest{})
		if _, err = collect.CloseAndRecv(); status.Code(err) != codes.Unavailable || w.executed() != 1 {
			t.Errorf("Collect, executed %d times: %v", w.executed(), err)
		}
		chat, err := w.client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err = chat.Recv(); status.Code(err) != codes.Unavailable || w.executed() != 2 {
			t.Errorf("Chat, executed %d times in all: %v", w.executed(), err)
		}
		if e := w.take()[1]; e.Reason != failmode.ReasonBegun {
			t.Errorf("reason: %s", e.Reason)
		}
	})
}

func TestStreamTimeoutIsForTheFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Failover, failmode.WithPerAttemptTimeout(15*ms))
		w.server("a").OnCall(testenv.Hang)
		for range 2 {
			stream, err := w.client.Stream(t.Context(), &echov1.StreamRequest{Message: "hello", Count: 5, IntervalMs: 10})
			if err != nil {
				t.Fatal(err)
			}
			if by, n, err := drainStream(stream); err != nil || by != "bbbbb" {
				t.Errorf("%d messages by %q, %v", n, by, err)
			}
		}
		w.server("b").OnCall(testenv.Hang)
		stream, err := w.client.Stream(t.Context(), threeMessages, failmode.Idempotent(false))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = stream.Recv(); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "may have executed") {
			t.Errorf("error: %v", err)
		}
		chat, err := w.client.Chat(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.all(func(*testenv.Server) testenv.Hook { return nil })
		time.Sleep(time.Second)
		if err := chat.Context().Err(); err != nil {
			t.Errorf("the timeout ended a stream that was open: %v", err)
		}
	})
}

func TestSendThatFailsHereEndsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Failover)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := w.client.Stream(ctx, threeMessages, grpc.MaxCallSendMsgSize(1))
		if status.Code(err) != codes.ResourceExhausted || w.executed() != 0 {
			t.Errorf("executed %d times, %v", w.executed(), err)
		}
		if events := w.take(); len(events) != 1 || events[0].Reason != failmode.ReasonNotRetryable {
			t.Errorf("events: %v", events)
		}
	})
}

func TestAbandonedStreamLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Failover, failmode.WithPerAttemptTimeout(time.Hour))
		w.all(func(*testenv.Server) testenv.Hook { return testenv.Hang })
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := w.client.Stream(ctx, threeMessages); err != nil {
			t.Fatal(err)
		}
		cancel() // what gRPC asks for; the bubble fails if a goroutine is left
	})
}
