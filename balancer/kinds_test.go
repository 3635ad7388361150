package balancer

import (
	"context"
	"fmt"
	"testing"

	gbalancer "google.golang.org/grpc/balancer"
)

// Methods that take each other's places would look up their descriptors at every
// pick.
func TestManyMethodsAllocateNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(P2C{}, servers("a", "b")...)
		b.ready("a", "b")
		ctx := context.Background()
		p := b.cc.State().Picker
		var methods []string
		for i := range 4 {
			methods = append(methods, fmt.Sprintf("/rollcall.echo.v1.Echo/Get%d", i))
		}
		allocs := testing.AllocsPerRun(1000, func() {
			for _, method := range methods {
				r, _ := p.Pick(gbalancer.PickInfo{Ctx: ctx, FullMethodName: method})
				r.Done(answeredOK)
			}
		})
		if allocs > 0 {
			t.Errorf("%v allocations", allocs)
		}
	})
}
