package failmode_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
)

func TestHeaderFailsOverToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Failover)
		w.server("a").OnCall(testenv.Answer(codes.Unavailable))
		w.server("b").OnCall(func(ctx context.Context, _ string) error {
			return grpc.SetHeader(ctx, mdOf("served-by", "b"))
		})
		for range 2 {
			stream, err := w.client.Stream(t.Context(), threeMessages)
			if err != nil {
				t.Fatal(err)
			}
			header, err := stream.Header()
			if err != nil || len(header["served-by"]) != 1 {
				t.Errorf("header %v, %v", header, err)
			}
			if by, _, err := drainStream(stream); by != "bbb" || err != nil {
				t.Errorf("served by %q, %v", by, err)
			}
		}
		w.server("b").OnCall(testenv.Answer(codes.Unavailable))
		stream, err := w.client.Stream(t.Context(), threeMessages)
		if err != nil {
			t.Fatal(err)
		}
		if header, err := stream.Header(); header != nil || err != nil {
			t.Errorf("all failed: header %v, %v; want neither, as in gRPC", header, err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "3 attempts") {
			t.Errorf("all failed: %v", err)
		}
	})
}

func TestHeaderCommitsToItsAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Failover)
		w.all(func(s *testenv.Server) testenv.Hook {
			return func(ctx context.Context, method string) error {
				grpc.SendHeader(ctx, mdOf("served-by", s.Instance().ID))
				return status.Error(codes.Unavailable, "after the header")
			}
		})
		stream, err := w.client.Stream(t.Context(), threeMessages)
		if err != nil {
			t.Fatal(err)
		}
		if header, err := stream.Header(); err != nil || len(header["served-by"]) != 1 {
			t.Errorf("header: %v, %v", header, err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || w.executed() != 1 {
			t.Errorf("executed %d times: %v", w.executed(), err)
		}
	})
}

func TestStreamContextAndTrailerAreTheLastAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Failover)
		for _, s := range w.servers {
			s.OnCall(func(ctx context.Context, _ string) error {
				grpc.SetTrailer(ctx, mdOf("served-by", s.Instance().ID))
				if s.Instance().ID == "a" {
					return status.Error(codes.Unavailable, "not me")
				}
				return nil
			})
		}
		for range 2 {
			stream, err := w.client.Stream(t.Context(), threeMessages)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
			if err := stream.Context().Err(); err != nil {
				t.Errorf("context of a stream that runs: %v", err)
			}
			drainStream(stream)
			if by := stream.Trailer()["served-by"]; len(by) != 1 || by[0] != "b" {
				t.Errorf("trailer of %v", by)
			}
			if stream.Context().Err() == nil {
				t.Error("context of a stream that has ended is still alive")
			}
		}
	})
}

func TestStreamContextCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "ab", failmode.Failover)
		w.all(func(*testenv.Server) testenv.Hook { return testenv.Answer(codes.Unavailable) })
		stream, err := w.client.Stream(t.Context(), threeMessages)
		if err != nil {
			t.Fatal(err)
		}
		stream.Context()
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || w.executed() != 1 {
			t.Errorf("executed %d times, %v", w.executed(), err)
		}
	})
}
