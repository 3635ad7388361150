package failmode_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

// Failover for a whole ClientConn, unsafe methods included.
func Example() {
	conn, err := grpc.NewClient("dns:///greeter:9000",
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.WeightedRoundRobin{})),
		grpc.WithChainUnaryInterceptor(failmode.UnaryClientInterceptor(failmode.Failover)),
		grpc.WithChainStreamInterceptor(failmode.StreamClientInterceptor(failmode.Failover)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	fmt.Println(conn.Target(), err)
	// Output: dns:///greeter:9000 <nil>
}

// An unknown mode, say of a flag, is refused with the list of the known ones.
func ExampleParseMode() {
	mode, err := failmode.ParseMode("failover")
	fmt.Println(mode, err)
	_, err = failmode.ParseMode("failback")
	fmt.Println(err)
	// Output:
	// failover <nil>
	// failmode: unknown mode "failback": known are failfast, failretry, failover, failsafe, forking, broadcast
}

// lostConnection stands for a connection that breaks when a call is under way.
func lostConnection(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
	record, err := pick.FromContext(ctx), status.Error(codes.Unavailable, "connection lost")
	record.End(record.Begin(&pick.Target{ID: "greeter-1"}), pick.Unanswered, err)
	return err
}

// A method without a promise in its proto is not run twice, and the error says
// that it may have run once.
func ExampleError() {
	call := failmode.UnaryClientInterceptor(failmode.Failover)
	err := call(context.Background(), echov1.Echo_Add_FullMethodName, nil, nil, nil, lostConnection)
	fmt.Println(err)
	if failed, ok := errors.AsType[*failmode.Error](err); ok {
		fmt.Println(status.Code(err), len(failed.Attempts), failed.MayHaveExecuted())
	}
	// Output:
	// rpc error: code = Unavailable desc = connection lost (1 attempt: greeter-1 Unavailable sent_no_answer; may have executed)
	// Unavailable 1 true
}

// Options work on a single call as well. Here one for which the caller knows that
// it may run again.
func ExampleIdempotent() {
	attempts := failmode.WithObserver(func(e failmode.AttemptEvent) {
		fmt.Printf("attempt %d at %s: %s; again: %t, %s\n", e.Attempt, e.Target.ID, e.Class, e.Again, e.Reason)
	})
	call := failmode.UnaryClientInterceptor(failmode.Failover, attempts)
	call(context.Background(), echov1.Echo_Add_FullMethodName, nil, nil, nil, lostConnection,
		failmode.Idempotent(true), failmode.WithMaxAttempts(2))
	// Output:
	// attempt 1 at greeter-1: sent_no_answer; again: true, the method is idempotent
	// attempt 2 at greeter-1: sent_no_answer; again: false, no attempts left
}

// Rules per method with go-grpc-middleware's selector: reports fail fast, all
// else fails over.
func Example_selector() {
	reports := func(_ context.Context, call interceptors.CallMeta) bool { return call.Service == "shop.Reports" }
	others := func(ctx context.Context, call interceptors.CallMeta) bool { return !reports(ctx, call) }
	chain := []grpc.UnaryClientInterceptor{
		selector.UnaryClientInterceptor(failmode.UnaryClientInterceptor(failmode.Failfast), selector.MatchFunc(reports)),
		selector.UnaryClientInterceptor(failmode.UnaryClientInterceptor(failmode.Failover), selector.MatchFunc(others)),
	}
	for _, method := range []string{"/shop.Reports/Daily", "/shop.Orders/Pay"} {
		attempts := 0
		refuse := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			attempts++
			record, err := pick.FromContext(ctx), status.Error(codes.Unavailable, "closing")
			record.End(record.Begin(&pick.Target{ID: "shop-1"}), pick.Refused, err)
			return err
		}
		call := refuse
		for _, interceptor := range chain {
			next := call
			call = func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
				return interceptor(ctx, method, req, reply, cc, next, opts...)
			}
		}
		call(context.Background(), method, nil, nil, nil)
		fmt.Println(method, attempts)
	}
	// Output:
	// /shop.Reports/Daily 1
	// /shop.Orders/Pay 3
}
