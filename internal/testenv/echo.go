package testenv

import (
	"context"
	"errors"
	"io"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/backoff"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

// Hook runs inside every handler, after the call was counted as executed; an
// error is the handler's answer. method is the full one, as in
// echov1.Echo_Get_FullMethodName.
type Hook func(ctx context.Context, method string) error

// Answer is a Hook that answers every call with the code.
func Answer(code codes.Code) Hook {
	return func(context.Context, string) error { return status.Error(code, "as the test wants it") }
}

// Delay is a Hook that makes every handler take d.
func Delay(d time.Duration) Hook {
	return func(ctx context.Context, _ string) error {
		return status.FromContextError(backoff.Wait(ctx, d)).Err()
	}
}

// Hang is a Hook that answers no call before the caller has gone away.
func Hang(ctx context.Context, _ string) error {
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}

// Echo is the Echo service of one server process. It counts what it executes
// and does on demand what the test wants.
type Echo struct {
	echov1.UnimplementedEchoServer
	id string

	mu       sync.Mutex // guards all below; nothing is called under it
	hook     Hook
	executed map[string]int
	values   map[string]string
	totals   map[string]int64
}

// NewEcho returns the service of the instance with this ID.
func NewEcho(id string) *Echo {
	return &Echo{id: id, executed: map[string]int{}, values: map[string]string{}, totals: map[string]int64{}}
}

// OnCall makes every call from now on run the hook; nil takes it away.
func (e *Echo) OnCall(hook Hook) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hook = hook
}

// Executed returns how many calls have entered a handler: of these full
// methods, or of all.
func (e *Echo) Executed(methods ...string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(methods) == 0 {
		for count := range maps.Values(e.executed) {
			n += count
		}
	}
	for _, method := range methods {
		n += e.executed[method]
	}
	return n
}

// Total returns what Add has added up for the key: with an amount of 1 and a
// key per call, how often that call was executed here.
func (e *Echo) Total(key string) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.totals[key]
}

// enter counts the call and runs the hook.
func (e *Echo) enter(ctx context.Context, method string) error {
	e.mu.Lock()
	e.executed[method]++
	hook := e.hook
	e.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(ctx, method)
}

// Get implements echov1.EchoServer.
func (e *Echo) Get(ctx context.Context, in *echov1.GetRequest) (*echov1.GetResponse, error) {
	if err := e.enter(ctx, echov1.Echo_Get_FullMethodName); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return &echov1.GetResponse{InstanceId: e.id, Value: e.values[in.GetKey()]}, nil
}

// Put implements echov1.EchoServer.
func (e *Echo) Put(ctx context.Context, in *echov1.PutRequest) (*echov1.PutResponse, error) {
	if err := e.enter(ctx, echov1.Echo_Put_FullMethodName); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.values[in.GetKey()] = in.GetValue()
	return &echov1.PutResponse{InstanceId: e.id}, nil
}

// Add implements echov1.EchoServer. It adds before the hook runs, so that a
// call counts even when the server dies inside its handler.
func (e *Echo) Add(ctx context.Context, in *echov1.AddRequest) (*echov1.AddResponse, error) {
	e.mu.Lock()
	e.totals[in.GetKey()] += in.GetAmount()
	total := e.totals[in.GetKey()]
	e.mu.Unlock()
	if err := e.enter(ctx, echov1.Echo_Add_FullMethodName); err != nil {
		return nil, err
	}
	return &echov1.AddResponse{InstanceId: e.id, Total: total}, nil
}

// Stream implements echov1.EchoServer.
func (e *Echo) Stream(in *echov1.StreamRequest, stream grpc.ServerStreamingServer[echov1.StreamResponse]) error {
	if err := e.enter(stream.Context(), echov1.Echo_Stream_FullMethodName); err != nil {
		return err
	}
	wait := Delay(time.Duration(in.GetIntervalMs()) * time.Millisecond)
	for i := range max(in.GetCount(), 1) {
		if i > 0 {
			if err := wait(stream.Context(), ""); err != nil {
				return err
			}
		}
		if err := stream.Send(&echov1.StreamResponse{InstanceId: e.id, Message: in.GetMessage(), Index: i}); err != nil {
			return err
		}
	}
	return nil
}

// Collect implements echov1.EchoServer.
func (e *Echo) Collect(stream grpc.ClientStreamingServer[echov1.CollectRequest, echov1.CollectResponse]) error {
	if err := e.enter(stream.Context(), echov1.Echo_Collect_FullMethodName); err != nil {
		return err
	}
	var count uint32
	for {
		switch _, err := stream.Recv(); {
		case errors.Is(err, io.EOF):
			return stream.SendAndClose(&echov1.CollectResponse{InstanceId: e.id, Count: count})
		case err != nil:
			return err
		}
		count++
	}
}

// Chat implements echov1.EchoServer.
func (e *Echo) Chat(stream grpc.BidiStreamingServer[echov1.ChatRequest, echov1.ChatResponse]) error {
	if err := e.enter(stream.Context(), echov1.Echo_Chat_FullMethodName); err != nil {
		return err
	}
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&echov1.ChatResponse{InstanceId: e.id, Message: in.GetMessage()}); err != nil {
			return err
		}
	}
}
