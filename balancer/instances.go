package balancer

import (
	"maps"
	"slices"

	gbalancer "google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/pick"
)

// recordOf returns the call's record, if it has one, and tells it which instances
// there are, if it asks.
func (e *engine) recordOf(info gbalancer.PickInfo) *pick.Record {
	rec := pick.FromContext(info.Ctx).For(info.FullMethodName)
	if rec.InstancesAsked() {
		rec.SetInstances(e.ids())
	}
	return rec
}

// ids returns the ID of each instance once, in order.
func (e *engine) ids() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.children))
}
