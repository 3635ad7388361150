package failmode_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/interceptors/track"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
)

// withRetryPolicy is a service config in which gRPC makes up to five attempts.
func withRetryPolicy() grpc.DialOption {
	return grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.RoundRobin{}, balancer.WithBase(`{"methodConfig": [{"name": [{}], "retryPolicy": {
		"maxAttempts": 5, "initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`)))
}

// Several layers that retry make together what failmode may make alone, say how
// the last attempt ended, and are named, once.
func TestAttemptsOfSeveralLayersDoNotMultiply(t *testing.T) {
	theirs := grpc.WithChainUnaryInterceptor(retry.UnaryClientInterceptor(retry.WithMax(5), retry.WithCodes(codes.Unavailable)))
	for name, tt := range map[string]struct {
		above, below grpc.DialOption
		other        string
	}{
		"alone":                       {grpc.EmptyDialOption{}, grpc.EmptyDialOption{}, ""},
		"gRPC's retryPolicy":          {grpc.EmptyDialOption{}, withRetryPolicy(), "retryPolicy of gRPC's service config, maxAttempts 5"},
		"another interceptor":         {grpc.EmptyDialOption{}, theirs, "an interceptor below it"},
		"another one, with the trace": {grpc.WithChainUnaryInterceptor(track.UnaryClientInterceptor()), theirs, "an interceptor below it"},
		"an interceptor above":        {theirs, grpc.EmptyDialOption{}, ""}, // without the record nobody knows
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				w := newWorld(t, "abcdefg", failmode.Failover)
				ours := failmode.UnaryClientInterceptor(failmode.Failover, unlimited, failmode.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				w.dial(tt.above, grpc.WithChainUnaryInterceptor(ours), tt.below)
				w.all(func(s *testenv.Server) testenv.Hook { return testenv.Answer(codes.Unavailable) })
				for range 3 {
					_, err := w.client.Get(t.Context(), get)
					if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "as the test wants it") {
						t.Errorf("error: %v", err)
					}
				}
				if most := 9; name != "an interceptor above" && w.executed() != most {
					t.Errorf("%d attempts of 3 calls, want %d", w.executed(), most)
				}
				if got := log.String(); strings.Count(got, "level=WARN") != min(len(tt.other), 1) ||
					tt.other != "" && (!strings.Contains(got, tt.other) || !strings.Contains(got, "failmode failover, 3 attempts")) {
					t.Errorf("log: %s", got)
				}
			})
		})
	}
}

// With the record above all, the cap holds for a layer above as well.
func TestCapWithTheRecordAboveAll(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Unknown, codes.NotFound} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			w := newWorld(t, "abcdefg", failmode.Failover)
			w.dial(grpc.WithChainUnaryInterceptor(track.UnaryClientInterceptor(),
				retry.UnaryClientInterceptor(retry.WithMax(5), retry.WithCodes(codes.Unavailable, code)),
				failmode.UnaryClientInterceptor(failmode.Failover, unlimited, failmode.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))))
			w.all(func(s *testenv.Server) testenv.Hook { return testenv.Answer(code) })
			_, err := w.client.Get(t.Context(), get)
			want := code
			if code == codes.NotFound { // which gRPC does not let a policy return
				want = codes.Unavailable
			}
			if status.Code(err) != want || !strings.Contains(err.Error(), fmt.Sprint(code, ": as the test wants it")) || w.executed() != 3 {
				t.Errorf("%v: %d attempts, %v", code, w.executed(), err)
			}
			if got := log.String(); strings.Count(got, "an interceptor above it") != 1 {
				t.Errorf("log: %s", got)
			}
		})
	}
}

// What the attempts of a layer above have done is not held against an attempt of ours
// that was not sent.
func TestEarlierAttemptsAreNotOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, record := pick.NewCall(t.Context(), "/shop.Orders/Pay")
		record.End(record.Begin(&pick.Target{ID: "above"}), pick.Unanswered, status.Error(codes.Unavailable, "lost"))
		f := &fake{script: []outcome{{class: pick.NotSent, code: codes.Unavailable}, {class: pick.Answered}}}
		if err := call(ctx, f, failmode.UnaryClientInterceptor(failmode.Failover)); err != nil || len(f.made) != 2 {
			t.Errorf("%v after attempts at %v", err, f.made)
		}
	})
}
