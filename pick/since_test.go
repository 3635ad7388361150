package pick_test

import (
	"errors"
	"testing"

	"github.com/rollcall-go/rollcall/pick"
)

func TestNewCallIsForOneMethod(t *testing.T) {
	ctx, outer := pick.NewCall(t.Context(), "/shop.Orders/Pay")
	if again, r := pick.NewCall(ctx, "/shop.Orders/Pay"); again != ctx || r != outer {
		t.Error("the same call got another record")
	}
	nested, inner := pick.NewCall(ctx, "/auth.Tokens/Get")
	if inner == outer || pick.FromContext(nested) != inner || pick.FromContext(ctx) != outer {
		t.Error("a call on the way of another one shares its record")
	}
	any, r := pick.NewContext(t.Context())
	if again, got := pick.NewCall(any, "/shop.Orders/Pay"); again != any || got != r {
		t.Error("a record for any method was not taken")
	}
}

func TestForRefusesAnotherCallsRecord(t *testing.T) {
	_, r := pick.NewCall(t.Context(), "/shop.Orders/Pay")
	_, any := pick.NewContext(t.Context())
	for _, tt := range []struct {
		record *pick.Record
		method string
		want   *pick.Record
	}{
		{r, "/shop.Orders/Pay", r},
		{r, "/auth.Tokens/Get", nil},
		{any, "/auth.Tokens/Get", any},
		{nil, "/auth.Tokens/Get", nil},
	} {
		if got := tt.record.For(tt.method); got != tt.want {
			t.Errorf("For(%q) = %p, want %p", tt.method, got, tt.want)
		}
	}
}

var errNobody = errors.New("nobody is ready")

func TestSinceTellsWhatIsCertain(t *testing.T) {
	ended := func(classes ...pick.Class) func(*pick.Record) {
		return func(r *pick.Record) {
			for _, class := range classes {
				r.End(r.Begin(&pick.Target{ID: class.String()}), class, errors.New("ended"))
			}
		}
	}
	for name, tt := range map[string]struct {
		do    func(*pick.Record)
		picks int
		want  pick.Class
	}{
		"nobody looked":                       {func(*pick.Record) {}, 0, pick.Untracked},
		"nobody to pick":                      {func(r *pick.Record) { r.NotPicked(errNobody) }, 0, pick.NeverPicked},
		"picked and not used":                 {func(r *pick.Record) { r.Unused(r.Begin(&pick.Target{ID: "a"})) }, 0, pick.NeverPicked},
		"in flight":                           {func(r *pick.Record) { r.Begin(&pick.Target{ID: "a"}) }, 1, pick.Unanswered},
		"one attempt":                         {ended(pick.NotSent), 1, pick.NotSent},
		"none has executed":                   {ended(pick.NotSent, pick.Refused), 2, pick.Refused},
		"the first may have executed":         {ended(pick.Unanswered, pick.NotSent), 2, pick.Unanswered},
		"the last may have executed":          {ended(pick.NotSent, pick.Answered), 2, pick.Answered},
		"the first may have, then nobody":     {func(r *pick.Record) { ended(pick.Unanswered)(r); r.NotPicked(errNobody) }, 1, pick.Unanswered},
		"both may have executed":              {ended(pick.Unanswered, pick.Answered), 2, pick.Answered},
		"a foreign one between two that have": {ended(pick.Answered, pick.Refused, pick.Unanswered), 3, pick.Unanswered},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := pick.NewContext(t.Context())
			ended(pick.Answered)(r) // before the mark: belongs to an earlier try
			r.NotPicked(errNobody)
			mark := r.Mark()
			tt.do(r)
			if picks, class := r.Since(mark); len(picks) != tt.picks || class != tt.want {
				t.Errorf("%d attempts, %v; want %d, %v", len(picks), class, tt.picks, tt.want)
			}
		})
	}
}

func TestNotPickedErrorIsThatOfTheLastPick(t *testing.T) {
	_, r := pick.NewContext(t.Context())
	for i, step := range []struct {
		do   func()
		want error
	}{
		{func() {}, nil},
		{func() { r.NotPicked(errNobody) }, errNobody},
		{func() { r.Unused(begin(r, "a")) }, nil},
		{func() { r.NotPicked(errNobody) }, errNobody},
	} {
		if step.do(); r.NotPickedError() != step.want {
			t.Errorf("step %d: %v, want %v", i, r.NotPickedError(), step.want)
		}
	}
}

func TestNilRecordProvesNothing(t *testing.T) {
	var r *pick.Record
	r.NotPicked(errNobody)
	if picks, class := r.Since(r.Mark()); picks != nil || class != pick.Untracked {
		t.Errorf("%v, %v; want nothing and untracked", picks, class)
	}
	if err := r.NotPickedError(); err != nil {
		t.Errorf("the error of a pick is %v", err)
	}
	if pick.Untracked.NotExecuted() {
		t.Error("untracked says that it has not executed")
	}
}
