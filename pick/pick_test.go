package pick_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/pick"
)

// begin notes a pick of the instance with this ID.
func begin(r *pick.Record, id string) int {
	return r.Begin(&pick.Target{ID: id, Life: id + "-life", Addr: id + ":1"})
}

func TestNilRecordForgetsEverything(t *testing.T) {
	var r *pick.Record
	r.Avoid("a")
	r.Pin("a")
	n := begin(r, "a")
	r.End(n, pick.Answered, nil)
	r.Unused(n)
	r.NotPicked(errNobody)
	r.SetUnary()
	if _, pinned := r.Pinned(); pinned || r.Unary() || r.Avoids("a") || r.Attempts() != nil || r.For("/s/m") != nil {
		t.Error("a nil record remembers something")
	}
}

func TestNewContext(t *testing.T) {
	if r := pick.FromContext(t.Context()); r != nil {
		t.Errorf("a record in a fresh context: %v", r)
	}
	ctx, r := pick.NewContext(t.Context())
	if r == nil || pick.FromContext(ctx) != r {
		t.Error("the new record is not in its context")
	}
	if again, same := pick.NewContext(ctx); same != r || again != ctx {
		t.Error("a second layer does not share the call's record")
	}
	if fromChild := pick.FromContext(context.WithoutCancel(ctx)); fromChild != r {
		t.Error("the record is not in a context made from its own")
	}
}

func TestUnaryIsOfTheWholeCall(t *testing.T) {
	ctx, r := pick.NewContext(t.Context())
	_, fork := r.Fork(ctx)
	if r.Unary() || fork.Unary() {
		t.Error("unary, and nobody has said so")
	}
	fork.SetUnary()
	if !r.Unary() || !fork.Unary() {
		t.Error("not unary, and it was said")
	}
}

func TestAvoid(t *testing.T) {
	_, r := pick.NewContext(t.Context())
	if r.Avoids("a") {
		t.Error("a new record avoids somebody")
	}
	r.Avoid("a")
	begin(r, "b") // in flight
	r.End(begin(r, "c"), pick.Answered, nil)
	r.Unused(begin(r, "d"))
	for id, avoided := range map[string]bool{"a": true, "b": true, "c": true, "d": true, "e": false, "": false} {
		if r.Avoids(id) != avoided {
			t.Errorf("avoids %q: %v, want %v", id, !avoided, avoided)
		}
	}
}

func TestPin(t *testing.T) {
	_, r := pick.NewContext(t.Context())
	for _, id := range []string{"", "a", "b", ""} {
		r.Pin(id)
		if got, pinned := r.Pinned(); got != id || pinned != (id != "") {
			t.Errorf("after Pin(%q): %q, %v", id, got, pinned)
		}
	}
	if r.Avoids("a") {
		t.Error("who was pinned is avoided")
	}
}

func TestAttemptsAreListedInTheOrderOfTheirPicks(t *testing.T) {
	_, r := pick.NewContext(t.Context())
	failed := errors.New("failed")
	first := begin(r, "a")
	r.Unused(begin(r, "b"))
	third := begin(r, "c")
	r.End(third, pick.Refused, failed)
	r.End(first, pick.Answered, nil)
	begin(r, "d")
	begin(r, "e") // more than a record has room for at first
	got := r.Attempts()
	want := []pick.Attempt{
		{Target: pick.Target{ID: "a", Life: "a-life", Addr: "a:1"}, Class: pick.Answered, Ended: true},
		{Target: pick.Target{ID: "c", Life: "c-life", Addr: "c:1"}, Class: pick.Refused, Err: failed, Ended: true},
		{Target: pick.Target{ID: "d", Life: "d-life", Addr: "d:1"}, Class: pick.Unanswered},
		{Target: pick.Target{ID: "e", Life: "e-life", Addr: "e:1"}, Class: pick.Unanswered},
	}
	if len(got) != len(want) {
		t.Fatalf("%d attempts are listed, want %d: %+v", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("attempt %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	got[0].Target.ID = "changed"
	if r.Attempts()[0].Target.ID != "a" {
		t.Error("the list is not a copy")
	}
}

func TestClass(t *testing.T) {
	for _, test := range []struct {
		class       pick.Class
		name        string
		notExecuted bool
	}{
		{pick.NeverPicked, "never_picked", true},
		{pick.NotSent, "not_sent", true},
		{pick.Unanswered, "sent_no_answer", false},
		{pick.Answered, "answered", false},
		{pick.Refused, "refused", true},
		{pick.Untracked, "untracked", false},
		{99, "99", false},
	} {
		if got := test.class.String(); got != test.name {
			t.Errorf("class %d is called %q, want %q", test.class, got, test.name)
		}
		if got := test.class.NotExecuted(); got != test.notExecuted {
			t.Errorf("%v: certainly not executed is %v, want %v", test.class, got, test.notExecuted)
		}
	}
}

// A hedging layer has several attempts of one call in flight at once.
func TestRecordIsSafeForConcurrentUse(t *testing.T) {
	_, r := pick.NewContext(t.Context())
	var wg sync.WaitGroup
	for g := range 8 {
		id := fmt.Sprint(g)
		wg.Go(func() {
			for range 100 {
				mark := r.Mark()
				n := begin(r, id)
				r.Avoid(id)
				r.Pin(id)
				r.Pinned()
				if !r.Avoids(id) {
					t.Error("an instance that was tried is not avoided")
				}
				if n%2 == 0 {
					r.End(n, pick.Answered, nil)
				} else {
					r.Unused(n)
				}
				r.NotPicked(errNobody)
				r.Since(mark)
				r.Attempts()
			}
		})
	}
	wg.Wait()
	for _, a := range r.Attempts() {
		if !a.Ended || a.Class != pick.Answered {
			t.Fatalf("an attempt got lost: %+v", a)
		}
	}
	if got := len(r.Attempts()); got != 400 {
		t.Errorf("%d attempts are listed, want the 400 that were used", got)
	}
}

// What a call pays that nobody retries: the record and its context are one.
func TestRecordOfAnOrdinaryCallAllocatesOnce(t *testing.T) {
	target := &pick.Target{ID: "a"}
	if n := testing.AllocsPerRun(100, func() {
		_, r := pick.NewCall(context.Background(), "/s/m")
		r.End(r.Begin(target), pick.Answered, nil)
	}); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
	if n := testing.AllocsPerRun(100, func() { pick.FromContext(context.Background()).Avoids("a") }); n > 0 {
		t.Errorf("%v allocations without a record, want none", n)
	}
}
