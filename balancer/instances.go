package balancer

import (
	"maps"
	"slices"

	"github.com/rollcall-go/rollcall/pick"
)

// told returns the record of a call, which may be nil, and tells it which instances
// there are, if it asks.
func (e *engine) told(rec *pick.Record) *pick.Record {
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
