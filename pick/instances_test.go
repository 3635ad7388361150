package pick_test

import (
	"slices"
	"testing"

	"github.com/rollcall-go/rollcall/pick"
)

func TestInstances(t *testing.T) {
	ctx, r := pick.NewCall(t.Context(), "/a.B/C")
	if _, known := r.Instances(); known || r.InstancesAsked() {
		t.Error("told without having been asked")
	}
	r.AskInstances()
	_, fork := r.Fork(ctx)
	fork.SetInstances([]string{"a", "b"})
	if ids, known := r.Instances(); !known || !slices.Equal(ids, []string{"a", "b"}) || !fork.InstancesAsked() {
		t.Errorf("%v, %t", ids, known)
	}
	var none *pick.Record
	none.AskInstances()
	none.SetInstances([]string{"a"})
	if ids, known := none.Instances(); known || ids != nil || none.InstancesAsked() {
		t.Error("a nil record remembers instances")
	}
}

func TestWithout(t *testing.T) {
	ctx, r := pick.NewCall(t.Context(), "/a.B/C")
	ctx = pick.Without(ctx)
	if pick.FromContext(ctx) != nil {
		t.Error("the record is still there")
	}
	if _, another := pick.NewCall(ctx, "/a.B/C"); another == r || another == nil {
		t.Error("not a record of its own")
	}
}
