package system

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/interceptors/track"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/registry"
)

// Servers join and leave, and each has its share of the calls by its weight as
// soon as the clients have polled. Nobody is connected to twice.
func TestSharesFollowTheRegistry(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.start(registry.Instance{ID: "a", Weight: 5}), w.start(registry.Instance{ID: "b", Weight: 3})
		l := startLoad(t, w.client(balancer.WeightedRoundRobin{}, failmode.Failfast), 100, get)
		time.Sleep(poll)
		expectShares(t, l, map[string]float64{"a": 5, "b": 3})

		c := w.start(registry.Instance{ID: "c", Weight: 2})
		time.Sleep(poll)
		expectShares(t, l, map[string]float64{"a": 5, "b": 3, "c": 2})

		b.shutdown()
		expectShares(t, l, map[string]float64{"a": 5, "c": 2})
		for _, s := range []*process{a, b, c} {
			if n := w.Network.Dials(s.inst.Addrs[0]); n != 1 {
				t.Errorf("%s was dialled %d times, want once", s.inst.ID, n)
			}
		}
		l.endWithoutFailure("a", "c")
	})
}

// expectShares checks that the calls of ten seconds divide by these weights,
// within 1 %.
func expectShares(t *testing.T, l *load, weights map[string]float64) {
	t.Helper()
	var calls, total float64
	shares := l.shares(10 * time.Second)
	for id, n := range shares {
		calls, total = calls+float64(n), total+weights[id]
	}
	for id, weight := range weights {
		if got, want := float64(shares[id])/calls, weight/total; math.Abs(got-want) > 0.01 {
			t.Errorf("%s has %.3f of the calls, want %.3f: %v", id, got, want, shares)
		}
	}
}

// The retry interceptor of go-grpc-middleware finds the one good instance of
// three, if interceptors/track is above it.
func TestRetriesOfTheMiddleware(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for _, id := range []string{"a", "b", "c"} {
			s := w.start(registry.Instance{ID: id})
			if id != "c" {
				s.OnCall(testenv.Answer(codes.Unavailable))
			}
		}
		conn := w.dial(
			grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.Random{})),
			grpc.WithChainUnaryInterceptor(track.UnaryClientInterceptor(), retry.UnaryClientInterceptor(retry.WithMax(3), retry.WithCodes(codes.Unavailable))),
		)
		if got := testenv.Shares(t, conn, 300); got["c"] != 300 {
			t.Errorf("shares: %v, want all of c", got)
		}
	})
}

// A server that refuses while it closes proves that it has not executed the
// call, so even a payment goes elsewhere. A server that hands on the refusal of
// another one proves nothing, and the payment fails.
func TestRefusalsAreBelievedOfTheServerItselfOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.start(registry.Instance{ID: "a"}), w.start(registry.Instance{ID: "b"})
		conn := w.client(balancer.RoundRobin{}, failmode.Failover)
		a.Refuse()
		l := startLoad(t, conn, 50, add)
		time.Sleep(2 * time.Second)
		l.endWithoutFailure("b")
		once(t, l.calls, []*process{a, b})
	})

	inBubble(t, func(t *testing.T, w *world) { // a handler of relay hands on what closing says
		relay := w.start(registry.Instance{ID: "relay"})
		downstream := w.refusing(w.start(registry.Instance{ID: "closing"}))
		relay.OnCall(func(ctx context.Context, _ string) error {
			_, err := add(ctx, downstream, 1_000_000)
			return err
		})
		other := w.start(registry.Instance{ID: "other"})
		conn := w.client(balancer.RoundRobin{}, failmode.Failover)
		l := startLoad(t, conn, 50, add)
		time.Sleep(2 * time.Second)
		failed := l.end()
		if want := relay.Executed(); failed != want || want == 0 {
			t.Errorf("%d calls failed, want the %d that the relay executed: %v", failed, want, l.failed)
		}
		for n := range l.calls {
			if times := executions([]*process{relay, other}, n); times > 1 {
				t.Errorf("call %d was executed %d times", n, times)
			}
		}
	})
}
