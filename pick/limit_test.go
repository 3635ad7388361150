package pick_test

import (
	"errors"
	"testing"

	"github.com/rollcall-go/rollcall/pick"
)

func TestLimit(t *testing.T) {
	ctx, r := pick.NewCall(t.Context(), "/a.B/C")
	r.Limit(0)
	r.Limit(-1)
	r.Fork(ctx)
	if _, spent := r.Spent(); spent {
		t.Error("spent without a limit")
	}
	r.Limit(2)
	r.Limit(9) // the first one holds
	last := errors.New("no")
	for i, step := range []struct {
		class pick.Class
		err   error
		spent bool
	}{
		{pick.NotSent, nil, false}, {pick.Refused, nil, false}, {pick.Answered, last, false}, {pick.NotSent, nil, false}, {pick.Unanswered, last, true},
	} {
		r.End(r.Begin(&pick.Target{ID: "a"}), step.class, step.err)
		if err, spent := r.Spent(); spent != step.spent || spent && err != last {
			t.Errorf("after attempt %d: %v, %t", i, err, spent)
		}
	}
	(*pick.Record)(nil).Limit(1)
	if _, spent := (*pick.Record)(nil).Spent(); spent {
		t.Error("nothing is spent")
	}
}
