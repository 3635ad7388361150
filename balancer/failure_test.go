package balancer

import (
	"errors"
	"strings"
	"testing"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/pick"
)

func TestErrorSaysWhoCannotBeConnectedAndWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b", "c", "d", "e", "f", "g")...)
		b.fail("a", "b", "c", "d", "e", "f", "g")
		b.wantError(t.Context(), "rollcall: none of the 7 known instances can be connected: a (a:1): a refuses; b (b:1): b refuses", "e refuses; and 2 more")
		b.sub("a").Fail(status.Error(codes.DataLoss, "a has "+strings.Repeat("very ", 1000)+"much to say"))
		b.pass()
		b.wantError(t.Context(), "a has very very")
		_, _, err := b.call(t.Context())
		if len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		if _, ok := status.FromError(err); ok {
			t.Error("the error is a status: that ends wait-for-ready calls")
		}
		b.ResolverError(status.Error(codes.Unavailable, "no registry node answers"))
		b.wantError(t.Context(), "7 known instances", "and 2 more; resolver: rpc error: code = Unavailable desc = no registry node answers")
		_, _, err = b.call(t.Context())
		if _, ok := status.FromError(err); ok {
			t.Error("the error is a status: that ends wait-for-ready calls")
		}
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.wantError(t.Context(), "2 known instances")
		if _, _, err := b.call(t.Context()); strings.Contains(err.Error(), "resolver") {
			t.Errorf("%v, though the resolver is well again", err)
		}
		b.ready("b")
		b.wantPicks(1, map[string]int{"b": 1})
	})
}

func TestResolverErrors(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.ResolverError(errors.New("no registry node answers"))
		b.wantState(connectivity.TransientFailure)
		b.wantError(t.Context(), "rollcall: resolver: no registry node answers")
		b.resolve(RoundRobin{}, servers("a")...)
		b.ready("a")
		b.wantPublished("an error after a good state", 0, func() {
			b.ResolverError(errors.New("no registry node answers"))
			b.pass()
		})
		b.wantPicks(1, map[string]int{"a": 1})
	})
}

func TestEmptyListClosesEverythingAndSaysWhy(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		empty := endpoint.SetReason(gresolver.State{}, `service "echo" is unknown in env "prod"`)
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.ready("a", "b")
		for range 2 {
			if err := b.UpdateClientConnState(gbalancer.ClientConnState{ResolverState: empty}); !errors.Is(err, gbalancer.ErrBadResolverState) {
				t.Errorf("error %v, want ErrBadResolverState", err)
			}
			b.wantState(connectivity.TransientFailure)
			b.wantError(t.Context(), `rollcall: no instance to call: service "echo" is unknown in env "prod"`)
		}
		if left := b.cc.SubConns(); len(left) > 0 {
			t.Errorf("%d connections are left", len(left))
		}
		b.ResolverError(errors.New(`service "echo" is unknown in env "prod"`))
		if _, _, err := b.call(t.Context()); strings.Count(err.Error(), "unknown") != 1 {
			t.Errorf("%v: the same twice", err)
		}
		b.ResolverError(errors.New("produced zero addresses"))
		b.wantError(t.Context(), `unknown in env "prod"; resolver: produced zero addresses`)
		if err := b.resolve(RoundRobin{}); err == nil {
			t.Error("no error for an empty list")
		}
		b.wantError(t.Context(), "the resolver names none")
		b.resolve(RoundRobin{}, servers("a")...)
		b.ready("a")
		b.wantPicks(1, map[string]int{"a": 1})
	})
}

// gRPC knows no reason of a call that waits for a connection; the call's record does.
func TestTheRecordKnowsWhomTheCallWaitsFor(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b")...)
		ctx, record := pick.NewContext(t.Context())
		b.wantWaiting(ctx)
		b.fail("a")
		const want = "rollcall: waiting for any of the 2 known instances: a (a:1): a refuses; b (b:1): connecting"
		if got := record.NotPickedError(); !errors.Is(got, gbalancer.ErrNoSubConnAvailable) || got.Error() != want {
			t.Errorf("the record says %q, want %q", got, want)
		}
	})
}
