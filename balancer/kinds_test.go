package balancer

import (
	"context"
	"fmt"
	"testing"

	"github.com/rollcall-go/rollcall/pick"
)

func TestKindsOfCalls(t *testing.T) {
	var k kinds
	_, rec := pick.NewContext(context.Background())
	rec.SetUnary()
	for range 2 {
		for _, tt := range []struct {
			what call
			want callKind
		}{
			{call{method: unaryMethod}, unaryCall},
			{call{method: streamMethod}, streamCall},
			{call{method: streamMethod, rec: rec}, unaryCall},
			{call{method: "/no.such.Service/Get"}, streamCall},
			{call{method: "/grpc.health.v1.Health"}, streamCall}, // not a method
			{call{method: "/"}, streamCall},
			{call{method: "x"}, streamCall},
			{call{}, streamCall},
		} {
			if got := k.of(tt.what); got != tt.want {
				t.Errorf("%q with %v is %x, want %x", tt.what.method, tt.what.rec, got, tt.want)
			}
		}
	}
}

// A program with many methods does not look them up for each call, and one with
// more than there are places still gets right answers.
func TestKindsOfManyMethods(t *testing.T) {
	var names []string
	for _, verb := range []string{"Get", "List", "Create", "Update", "Delete", "Watch"} {
		for _, noun := range []string{"Order", "Orders", "User", "Users", "Item", "Items", "Invoice", "Invoices", "Cart", "Payment"} {
			names = append(names, "/shop.v1.Shop/"+verb+noun)
		}
	}
	var k kinds
	lookUp := func() {
		for _, name := range names {
			k.of(call{method: name})
		}
	}
	lookUp()
	if allocs := testing.AllocsPerRun(10, lookUp); allocs > 0 {
		t.Errorf("%d methods, and %v allocations to look them up again", len(names), allocs)
	}
	for i := range 10_000 {
		k.of(call{method: fmt.Sprint("/any/", i)})
	}
	if got := k.of(call{method: unaryMethod}); got != unaryCall {
		t.Errorf("%s is %x", unaryMethod, got)
	}
}
