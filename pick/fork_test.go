package pick_test

import (
	"errors"
	"testing"

	"github.com/rollcall-go/rollcall/pick"
)

// Attempts made beside each other share what the call has tried, and nothing of
// what became of them.
func TestFork(t *testing.T) {
	ctx, first := pick.NewCall(t.Context(), "/a.B/C")
	first.Begin(&pick.Target{ID: "a"})
	start := first.Mark()
	ctx, second := first.Fork(ctx)
	if got := pick.FromContext(ctx).For("/a.B/C"); got != second || first.Elsewhere() || !second.Elsewhere() {
		t.Fatal("the fork is not the record of its context, or not to go elsewhere")
	}
	_, third := second.Fork(ctx)
	mark := second.Mark()
	second.End(second.Begin(&pick.Target{ID: "b"}), pick.NotSent, nil)
	first.End(first.Begin(&pick.Target{ID: "c"}), pick.Answered, nil)
	third.NotPicked(errors.New("nobody else"))
	for name, tt := range map[string]struct {
		record *pick.Record
		mark   pick.Mark
		id     string
		class  pick.Class
	}{
		"first": {first, start, "c", pick.Answered}, "second": {second, mark, "b", pick.NotSent}, "third": {third, mark, "", pick.NeverPicked},
	} {
		attempts, class := tt.record.Since(tt.mark)
		if class != tt.class || len(attempts) > 1 || len(attempts) == 1 && attempts[0].Target.ID != tt.id || tt.id != "" && len(attempts) == 0 {
			t.Errorf("%s: %v, %+v", name, class, attempts)
		}
		for _, id := range []string{"a", "b", "c"} {
			if !tt.record.Avoids(id) {
				t.Errorf("%s: does not avoid %s", name, id)
			}
		}
		if err := tt.record.NotPickedError(); (err != nil) != (name == "third") {
			t.Errorf("%s: the error of a pick is %v", name, err)
		}
		if n := len(tt.record.Attempts()); n != 3 {
			t.Errorf("%s: %d attempts of the call", name, n)
		}
	}
}
