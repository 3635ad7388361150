package pick_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollcall-go/rollcall/pick"
)

// An interceptor puts the record into the call's context and reads it after
// the call. What the balancer does with it in between is shown here by hand.
func Example() {
	ctx, record := pick.NewCall(context.Background(), "/shop.Orders/Pay")

	// The balancer, at the first attempt:
	seen := pick.FromContext(ctx)
	n := seen.Begin(&pick.Target{ID: "orders-1", Addr: "10.0.0.1:9000"})
	seen.End(n, pick.NotSent, errors.New("connection refused"))
	// And at the second one:
	fmt.Println("avoid orders-1:", seen.Avoids("orders-1"))
	n = seen.Begin(&pick.Target{ID: "orders-2", Addr: "10.0.0.2:9000"})
	seen.End(n, pick.Answered, nil)

	for _, a := range record.Attempts() {
		fmt.Println(a.Target.ID, a.Class, a.Err)
	}
	// Output:
	// avoid orders-1: true
	// orders-1 not_sent connection refused
	// orders-2 answered <nil>
}
