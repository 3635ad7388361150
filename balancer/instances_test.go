package balancer

import (
	"slices"
	"testing"
)

// Whoever asks is told of every instance, whatever its state, and of each once.
func TestInstancesAreTold(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		ask := func() []string {
			ctx, rec := b.recorded()
			b.call(ctx)
			if _, told := rec.Instances(); told {
				t.Error("told without having been asked")
			}
			rec.AskInstances()
			b.call(ctx)
			ids, _ := rec.Instances()
			return slices.Sorted(slices.Values(ids))
		}
		b.resolve(RoundRobin{}, server("a/1"), server("a/2"), server("b", draining), server("c"))
		if got := ask(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("nobody is ready: %v", got)
		}
		b.ready("b")
		b.fail("c")
		if got := ask(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("b is ready: %v", got)
		}
	})
}
