package balancer

import (
	"context"
	"fmt"
	"testing"

	"github.com/rollcall-go/rollcall/pick"
)

func TestKindsOfCalls(t *testing.T) {
	var p picker
	_, rec := pick.NewContext(context.Background())
	rec.SetUnary()
	for range 2 {
		for _, tt := range []struct {
			method string
			rec    *pick.Record
			want   callKind
		}{
			{unaryMethod, nil, unaryCall},
			{streamMethod, nil, streamCall},
			{streamMethod, rec, unaryCall},
			{"/no.such.Service/Get", nil, streamCall},
			{"/grpc.health.v1.Health", nil, streamCall}, // not a method
			{"/", nil, streamCall},
			{"x", nil, streamCall},
			{"", nil, streamCall},
		} {
			for _, expected := range []string{unaryMethod, streamMethod, tt.method} {
				p.kinds.expect(expected)
				if got := p.kind(tt.method, tt.rec); got != tt.want {
					t.Errorf("%q with %v is %x after %q, want %x", tt.method, tt.rec, got, expected, tt.want)
				}
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
			k.of(name)
		}
	}
	lookUp()
	if allocs := testing.AllocsPerRun(10, lookUp); allocs > 0 {
		t.Errorf("%d methods, and %v allocations to look them up again", len(names), allocs)
	}
	for i := range 10_000 {
		k.of(fmt.Sprint("/any/", i))
	}
	if got := k.of(unaryMethod); got != unaryCall {
		t.Errorf("%s is %x", unaryMethod, got)
	}
}
