package testenv_test

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

	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// start is one server and a client connected to it directly.
func start(t *testing.T) (*testenv.System, *testenv.Server, echov1.EchoClient) {
	sys := testenv.New(t)
	server := sys.Start(registry.Instance{ID: "a"})
	return sys, server, echov1.NewEchoClient(sys.Dial("passthrough:///" + server.Addr))
}

func TestServerIsRegisteredAndAnswersEveryKindOfCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, server, client := start(t)
		snap, err := sys.Registry.Fetch(t.Context(), testenv.Service)
		if err != nil || len(snap.Instances) != 1 || !snap.Instances[0].Equal(server.Instance()) || snap.Instances[0].Life == "" {
			t.Errorf("registered: %+v, %v; want %+v", snap.Instances, err, server.Instance())
		}

		if _, err := client.Put(t.Context(), &echov1.PutRequest{Key: "k", Value: "v"}); err != nil {
			t.Error(err)
		}
		if got, err := client.Get(t.Context(), &echov1.GetRequest{Key: "k"}); err != nil || got.GetValue() != "v" || got.GetInstanceId() != "a" {
			t.Errorf("Get: %v, %v", got, err)
		}
		if _, err := client.Add(t.Context(), &echov1.AddRequest{Key: "call-1", Amount: 1}); err != nil || server.Total("call-1") != 1 {
			t.Errorf("Add: %v, executed %d times", err, server.Total("call-1"))
		}

		stream, err := client.Stream(t.Context(), &echov1.StreamRequest{Count: 3, IntervalMs: 10})
		var streamed int
		for ; err == nil; streamed++ {
			_, err = stream.Recv()
		}
		if !errors.Is(err, io.EOF) || streamed != 4 {
			t.Errorf("Stream: %d messages, %v", streamed-1, err)
		}
		collect, _ := client.Collect(t.Context())
		collect.Send(&echov1.CollectRequest{})
		if got, err := collect.CloseAndRecv(); err != nil || got.GetCount() != 1 {
			t.Errorf("Collect: %v, %v", got, err)
		}
		chat, _ := client.Chat(t.Context())
		chat.Send(&echov1.ChatRequest{Message: "hi"})
		if got, err := chat.Recv(); err != nil || got.GetMessage() != "hi" {
			t.Errorf("Chat: %v, %v", got, err)
		}
		chat.CloseSend()
		chat.Recv()

		if got := server.Executed(); got != 6 {
			t.Errorf("%d calls executed, want 6", got)
		}
		if got := server.Executed(echov1.Echo_Get_FullMethodName); got != 1 {
			t.Errorf("%d Get executed, want 1", got)
		}
	})
}

func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, server, client := start(t)
		get := func() codes.Code {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err := client.Get(ctx, &echov1.GetRequest{})
			return status.Code(err)
		}
		for _, step := range []struct {
			hook testenv.Hook
			code codes.Code
			took time.Duration
		}{
			{testenv.Answer(codes.ResourceExhausted), codes.ResourceExhausted, 0},
			{testenv.Delay(time.Minute), codes.OK, time.Minute},
			{testenv.Hang, codes.DeadlineExceeded, time.Hour},
			{nil, codes.OK, 0},
		} {
			server.OnCall(step.hook)
			begin := time.Now()
			if got := get(); got != step.code || time.Since(begin) != step.took {
				t.Errorf("%v after %v, want %v after %v", got, time.Since(begin), step.code, step.took)
			}
		}
		if got := server.Executed(); got != 4 {
			t.Errorf("%d executed, want all 4", got)
		}
	})
}

func TestKillInsideAHandlerBreaksTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, server, client := start(t)
		server.OnCall(func(ctx context.Context, method string) error {
			server.Kill()
			return testenv.Hang(ctx, method)
		})
		_, err := client.Add(t.Context(), &echov1.AddRequest{Key: "k", Amount: 1})
		if status.Code(err) != codes.Unavailable || server.Total("k") != 1 {
			t.Errorf("Add: %v, executed %d times; want Unavailable, once", err, server.Total("k"))
		}
		if _, err := sys.Registry.Fetch(t.Context(), testenv.Service); err != nil {
			t.Errorf("the registry lost the killed server at once: %v", err)
		}
		if _, err := client.Get(t.Context(), &echov1.GetRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("Get from a dead server: %v", err)
		}

		again := server.Restart()
		if _, err := client.Get(t.Context(), &echov1.GetRequest{}, grpc.WaitForReady(true)); err != nil || again.Executed() != 1 {
			t.Errorf("Get after the restart: %v, executed %d times", err, again.Executed())
		}
		if a, b := server.Instance(), again.Instance(); a.ID != b.ID || a.Addrs[0] != b.Addrs[0] || a.Life == b.Life {
			t.Errorf("restarted as %+v, was %+v: want another life of the same", b, a)
		}
		snap, err := sys.Registry.Fetch(t.Context(), testenv.Service)
		if err != nil || len(snap.Instances) != 1 || snap.Instances[0].Life != again.Instance().Life {
			t.Errorf("registered after the restart: %+v, %v", snap.Instances, err)
		}
	})
}

func TestStopFinishesCallsInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, server, client := start(t)
		server.OnCall(testenv.Delay(time.Second))
		done := make(chan error)
		go func() {
			_, err := client.Get(t.Context(), &echov1.GetRequest{})
			done <- err
		}()
		synctest.Wait()
		server.Deregister()
		go server.Stop()
		if err := <-done; err != nil {
			t.Errorf("the call in hand: %v", err)
		}
		synctest.Wait()
		if _, err := client.Get(t.Context(), &echov1.GetRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("Get from a stopped server: %v", err)
		}
		if _, err := sys.Registry.Fetch(t.Context(), testenv.Service); !errors.Is(err, registry.ErrUnknownService) {
			t.Errorf("Fetch after Deregister: %v", err)
		}
	})
}

func TestUpdateIsSeenInTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, server, _ := start(t)
		server.Update(func(i *registry.Instance) { i.Weight, i.Status = 7, registry.Draining })
		snap, err := sys.Registry.Fetch(t.Context(), testenv.Service)
		if err != nil || snap.Instances[0].Weight != 7 || snap.Instances[0].Status != registry.Draining {
			t.Errorf("registered: %+v, %v", snap.Instances, err)
		}
	})
}

func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys, _, _ := start(t)
		conn := sys.Dial("passthrough:///10.0.0.2:9000")
		if got := testenv.Shares(t, conn, 10); got["a"] != 10 || len(got) != 1 {
			t.Errorf("shares: %v, want all 10 at a", got)
		}
	})
}
