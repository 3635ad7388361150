package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/examples/internal/cli"
	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

func TestParseFailure(t *testing.T) {
	for in, want := range map[string]struct {
		code  codes.Code
		share float64
	}{
		"Unavailable":       {codes.Unavailable, 1},
		"unavailable:0.25":  {codes.Unavailable, 0.25},
		"NOT_FOUND":         {codes.NotFound, 1},
		"DeadlineExceeded":  {codes.DeadlineExceeded, 1},
		"DEADLINE_EXCEEDED": {codes.DeadlineExceeded, 1},
		"CANCELLED:0":       {codes.Canceled, 0},
	} {
		f, err := parseFailure(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := status.Code(f.with(t.Context())); got != want.code || f.share != want.share {
			t.Errorf("%s: %v for a share of %v, want %v and %v", in, got, f.share, want.code, want.share)
		}
	}
	for _, in := range []string{"OK", "0", "17", "Nonsense", ":0.5", "Unavailable:", "Unavailable:x", "Unavailable:-0.1", "Unavailable:1.1", "Unavailable:NaN"} {
		if _, err := parseFailure(in); err == nil {
			t.Errorf("%s is taken", in)
		}
	}
	if f, err := parseFailure(""); err != nil || f.roll(t.Context()) != nil {
		t.Errorf("no failure is wanted, got %v, %v", f, err)
	}
}

func TestFailureFollowsItsShare(t *testing.T) {
	f, err := parseFailure("Unavailable:0.3")
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for range 10_000 {
		if f.roll(t.Context()) != nil {
			failed++
		}
	}
	if failed < 2700 || failed > 3300 { // 6 sigma
		t.Errorf("%d of 10,000 calls failed, want about 3,000", failed)
	}
}

// connect serves e in memory and returns a client of it.
func connect(t *testing.T, e *echo) echov1.EchoClient {
	t.Helper()
	const addr = "10.0.0.1:9000"
	network := testenv.NewNetwork()
	lis, err := network.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(middleware(cli.Logger(false, 100), false)...)
	echov1.RegisterEchoServer(srv, e)
	go func() { _ = srv.Serve(lis) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(network.Dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return echov1.NewEchoClient(conn)
}

func newTestStats(t *testing.T) *stats {
	t.Helper()
	s, err := newStats(filepath.Join(t.TempDir(), "stats.json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServiceAnswersAndCounts(t *testing.T) {
	stats := newTestStats(t)
	c, ctx := connect(t, newEcho("me", 0, failure{}, stats)), t.Context()

	if _, err := c.Put(ctx, &echov1.PutRequest{Key: "k", Value: "v"}); err != nil {
		t.Error(err)
	}
	if resp, err := c.Get(ctx, &echov1.GetRequest{Key: "k"}); err != nil || resp.GetValue() != "v" || resp.GetInstanceId() != "me" {
		t.Errorf("get: %v, %v", resp, err)
	}
	for want := int64(2); want <= 4; want += 2 {
		if resp, err := c.Add(ctx, &echov1.AddRequest{Key: "k", Amount: 2}); err != nil || resp.GetTotal() != want {
			t.Errorf("add: %v, %v; want a total of %d", resp, err, want)
		}
	}
	messages, err := c.Stream(ctx, &echov1.StreamRequest{Message: "m", Count: 3, IntervalMs: 1})
	if err != nil {
		t.Fatal(err)
	}
	var indexes []uint32
	for {
		resp, err := messages.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		indexes = append(indexes, resp.GetIndex())
	}
	if !slices.Equal(indexes, []uint32{0, 1, 2}) {
		t.Errorf("streamed %v", indexes)
	}
	collectAndChat(t, c)

	if err := stats.close(); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, stats.path), map[string]int64{"put": 1, "get": 1, "add": 2, "stream": 1, "collect": 1, "chat": 1}; !maps.Equal(got, want) {
		t.Errorf("executed %v, want %v", got, want)
	}
}

func collectAndChat(t *testing.T, c echov1.EchoClient) {
	t.Helper()
	collect, err := c.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := collect.Send(&echov1.CollectRequest{Message: "m"}); err != nil {
			t.Error(err)
		}
	}
	if resp, err := collect.CloseAndRecv(); err != nil || resp.GetCount() != 3 || resp.GetInstanceId() != "me" {
		t.Errorf("collect: %v, %v", resp, err)
	}
	chat, err := c.Chat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(chat.Send(&echov1.ChatRequest{Message: "hi"}), chat.CloseSend()); err != nil {
		t.Error(err)
	}
	if resp, err := chat.Recv(); err != nil || resp.GetMessage() != "hi" {
		t.Errorf("chat: %v, %v", resp, err)
	}
	if _, err := chat.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("chat ends with %v", err)
	}
}

func read(t *testing.T, path string) map[string]int64 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	if err := json.Unmarshal(data, &counts); err != nil {
		t.Fatal(err)
	}
	return counts
}

func TestFailuresReachTheClient(t *testing.T) {
	for _, tc := range []struct {
		fail string
		code codes.Code
		says string
	}{
		{"NotFound", codes.NotFound, "-fail NotFound"},
		{"PANIC", codes.Internal, "handler panicked"},
		{"SERVER_CLOSING", codes.Unavailable, "is closing"},
	} {
		f, err := parseFailure(tc.fail)
		if err != nil {
			t.Fatal(err)
		}
		stats := newTestStats(t)
		var trailer metadata.MD
		_, err = connect(t, newEcho("me", 0, f, stats)).Add(t.Context(), &echov1.AddRequest{}, grpc.Trailer(&trailer))
		if status.Code(err) != tc.code || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", tc.fail, err)
		}
		if forged := len(trailer[drain.NotExecutedKey]) > 0; forged != (tc.fail == "SERVER_CLOSING") || drain.IsRefusal(err) != forged {
			t.Errorf("%s: trailer %v", tc.fail, trailer)
		}
		if err := stats.close(); err != nil {
			t.Error(err)
		}
		if got := read(t, stats.path)["add"]; got != 1 {
			t.Errorf("%s: counted %d executions", tc.fail, got)
		}
	}
}

func TestLatencyEndsWithTheCall(t *testing.T) {
	stats := newTestStats(t)
	defer stats.close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := newEcho("me", time.Hour, failure{}, stats).Get(ctx, &echov1.GetRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
}

func TestStatsFileMustBeWritable(t *testing.T) {
	if _, err := newStats(filepath.Join(t.TempDir(), "no", "stats")); err == nil {
		t.Error("a path in a folder that does not exist is taken")
	}
	s, err := newStats("")
	if err != nil {
		t.Fatal(err)
	}
	s.executed("get")
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
