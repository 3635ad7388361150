package httpregistry

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// said is what a node said: "a b c" are instances, "" is a 404. Capitals are other
// processes on the address of the small letter.
func said(node, names string) answer {
	a := answer{node: node}
	for name := range strings.FieldsSeq(names) {
		a.instances = append(a.instances, registry.Instance{
			Service: "s", ID: name, Life: name, Addrs: []string{strings.ToLower(name) + ":1"}, FirstRegistered: epoch,
		})
	}
	slices.SortFunc(a.instances, byID)
	if len(a.instances) == 0 {
		a.why = node + ": code 404"
	}
	return a
}

// settledAnswer is an answer of a node that has been up for a lease.
func settledAnswer(node, names string) answer {
	a := said(node, names)
	a.settled = node
	return a
}

func names(v verdict) string {
	var all []string
	for _, inst := range v.instances {
		all = append(all, inst.ID)
	}
	text := strings.Join(all, " ")
	if !v.confirmed {
		text += "?"
	}
	return text
}

func TestBelief(t *testing.T) {
	type round struct {
		after   time.Duration // since the round before
		silence bool
		idle    bool // nobody looked for so long
		answers []answer
		want    string // names; "?" after them: unconfirmed
	}
	one := func(want string, answers ...answer) round {
		return round{after: 5 * time.Second, answers: answers, want: want}
	}
	tests := []struct {
		name   string
		rounds []round
	}{
		{"the first 404 is believed", []round{one("", said("n", ""))}},
		{"a few gone are believed", []round{one("a b c d", said("n", "a b c d")), one("a b", said("n", "a b"))}},
		{"many gone are not", []round{one("a b c d", said("n", "a b c d")), one("a b c d?", said("n", "a"))}},
		{"the only one gone is not", []round{one("a", said("n", "a")), one("a?", said("n", ""))}},
		{"a 404 is no news for a lease, then it is", []round{
			one("a b", said("n", "a b")), one("a b?", said("n", "")),
			{after: 45 * time.Second, answers: []answer{said("n", "")}, want: "a b?"},
			{after: 44 * time.Second, answers: []answer{said("n", "")}, want: "a b?"},
			{after: time.Second, answers: []answer{said("n", "")}, want: ""},
			one("", said("n", "")), one("c", said("n", "c")),
		}},
		{"one look proves half a lease at most", []round{
			one("a b", said("n", "a b")), one("a b?", said("n", "")),
			{after: time.Hour, answers: []answer{said("n", "")}, want: "a b?"},
			{after: time.Hour, answers: []answer{said("n", "")}, want: ""},
		}},
		{"a small set is no news for a lease, then it is", []round{
			one("a b c", said("n", "a b c")), one("a b c?", said("n", "a")),
			{after: 45 * time.Second, answers: []answer{said("n", "a")}, want: "a b c?"},
			{after: 45 * time.Second, answers: []answer{said("n", "a")}, want: "a"},
		}},
		{"all back ends the doubt", []round{
			one("a b c", said("n", "a b c")), one("a b c?", said("n", "")), one("a b c", said("n", "a b c")),
			{after: 200 * time.Second, answers: []answer{said("n", "")}, want: "a b c?"}, // a new one
		}},
		{"what is back by and by is used, and nothing dropped before the lease", []round{
			one("a b c d", said("n", "a b c d")), one("a b c d?", said("n", "")), one("a b c d?", said("n", "a b")), one("a b c d?", said("n", "a b c")),
			{after: 45 * time.Second, answers: []answer{said("n", "a b c")}, want: "a b c d?"},
			{after: 35 * time.Second, answers: []answer{said("n", "a b c")}, want: "a b c"},
		}},
		{"every instance has a lease of its own to come back", []round{
			one("a b c", said("n", "a b c")), one("a b c?", said("n", "")), one("a b c?", said("n", "a b")),
			{after: 45 * time.Second, answers: []answer{said("n", "a b")}, want: "a b c?"},
			{after: 39 * time.Second, answers: []answer{said("n", "a b")}, want: "a b c?"},
			one("a b?", said("n", "")),
			{after: 45 * time.Second, answers: []answer{said("n", "a")}, want: "a b?"},
			{after: 45 * time.Second, answers: []answer{said("n", "a")}, want: "a"},
		}},
		{"who leaves while another is in doubt has left", []round{
			one("a b c d", said("n", "a b c d")), {silence: true}, one("a b c d?", said("n", "a b c")), one("a b d?", said("n", "a b")),
		}},
		{"new ones are used in doubt", []round{
			one("a b", said("n", "a b")), one("a b?", said("n", "")), one("a b x?", said("n", "x")), one("a b x?", said("n", "")), one("a b x", said("n", "a b x")),
		}},
		{"an address taken over is not missing", []round{one("a", said("n", "a")), one("a?", said("n", "")), one("A", said("n", "A"))}},
		{"silence keeps the set and proves nothing", []round{
			one("a b", said("n", "a b")), one("a b?", said("n", "")),
			{after: 80 * time.Second, silence: true},
			{after: 80 * time.Second, answers: []answer{said("n", "")}, want: "a b?"},
			{after: 45 * time.Second, answers: []answer{said("n", "")}, want: "a b?"},
			{after: 44 * time.Second, answers: []answer{said("n", "")}, want: "a b?"},
			{after: time.Second, answers: []answer{said("n", "")}, want: ""},
		}},
		{"after silence nothing may be missing", []round{
			one("a b c d", said("n", "a b c d")), {silence: true}, one("a b c d?", said("n", "a b c")), one("a b c d", said("n", "a b c d")), one("a b c", said("n", "a b c")),
		}},
		{"another node may not lack anything", []round{
			one("a b c d", said("n", "a b c d")), one("a b c d?", said("m", "a b c")), one("a b c d", said("n", "a b c d")),
		}},
		{"two nodes that have been up for a lease are believed", []round{
			one("a b c", said("n", "a b c")), one("", settledAnswer("n", ""), settledAnswer("m", "")),
		}},
		{"one of them is enough against an old set", []round{
			one("a b", said("n", "a b")), {idle: true}, one("", settledAnswer("n", "")),
		}},
		{"one that has just started is not", []round{
			one("a b", said("n", "a b")), {idle: true}, one("a b?", said("n", "")), one("", settledAnswer("n", "")),
		}},
		{"a few gone from an old set are believed", []round{
			one("a b c", said("n", "a b c")), {idle: true}, one("a b", said("n", "a b")),
		}},
		{"a set that is confirmed is not old", []round{
			one("a b", said("n", "a b")), {idle: true}, one("a b", said("n", "a b")), one("a b?", settledAnswer("n", "")),
		}},
		{"one node never is two", []round{
			one("a b c", said("n", "a b c")), one("a b c?", settledAnswer("n", "")), one("a b c?", settledAnswer("n", ""), settledAnswer("n", "")),
		}},
		{"a node that has just started does not count", []round{
			one("a b c", said("n", "a b c")), one("a b c?", settledAnswer("n", ""), said("m", "")),
		}},
		{"the views of two nodes are merged", []round{
			one("a b c d", said("n", "a b c d")), one("a b c d", said("n", "a b"), said("m", "c d")),
			one("a b c d", said("n", "a b"), said("m", "c d")),
			one("a b c", settledAnswer("n", "a b"), settledAnswer("m", "c")),
		}},
		{"a node that has all of it ends the doubt", []round{
			one("a b c", said("n", "a b c")), one("a b c", said("n", ""), said("m", "a b c")), one("a b", said("m", "a b")),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, now := belief{lease: 90 * time.Second}, epoch
			for i, r := range tt.rounds {
				now = now.Add(r.after)
				switch {
				case r.silence:
					b.silence()
					continue
				case r.idle:
					b.old = true
					continue
				}
				v := b.judge(now, r.answers)
				if got := names(v); got != r.want {
					t.Fatalf("round %d: %q, want %q", i, got, r.want)
				}
				if v.confirmed != (v.reason == "") && len(v.instances) > 0 || len(v.instances) == 0 && v.reason == "" {
					t.Errorf("round %d: %q has the reason %q", i, names(v), v.reason)
				}
			}
		})
	}
}

// A registry that restarts between two polls is found out by when it first saw
// whom: what is not back yet stays.
func TestBeliefNoticesAnUnseenRestart(t *testing.T) {
	b := belief{lease: 90 * time.Second}
	b.judge(epoch, []answer{said("n", "a b c d")})
	half := said("n", "a b c")
	half.instances[1].FirstRegistered = epoch.Add(time.Second)
	if !b.doubts(half) {
		t.Error("an answer from after a restart is not doubted")
	}
	replaced := said("n", "a b c")
	replaced.instances[1].Life, replaced.instances[1].FirstRegistered = "new", epoch.Add(time.Second)
	if b.doubts(replaced) {
		t.Error("a restarted server is taken for a restarted registry")
	}
}

func TestBeliefKeepsWhyTheSetWasGivenUp(t *testing.T) {
	b := belief{lease: 90 * time.Second}
	b.judge(epoch, []answer{said("n", "a b c")})
	b.judge(epoch, []answer{said("n", "")})
	b.judge(epoch.Add(45*time.Second), []answer{said("n", "")})
	for range 2 {
		v := b.judge(epoch.Add(90*time.Second), []answer{said("n", "")})
		if want := "n: code 404; this has held for 1m30s"; v.reason != want {
			t.Errorf("reason = %q, want %q", v.reason, want)
		}
	}
	b.judge(epoch, []answer{said("n", "a")})
	b.judge(epoch, []answer{settledAnswer("n", "")})
	v := b.judge(epoch, []answer{settledAnswer("n", ""), settledAnswer("m", "")})
	if want := "n: code 404, m: code 404; they agree and have been up for 1m30s"; v.reason != want {
		t.Errorf("reason = %q, want %q", v.reason, want)
	}
}

// A node that fails now and then, or every other time, is believed in the end.
func TestBeliefInANodeThatOftenFails(t *testing.T) {
	for _, tt := range []struct {
		every    int // which round is silence
		min, max time.Duration
	}{{12, 90 * time.Second, 2 * time.Minute}, {2, 5 * time.Minute, 20 * time.Minute}} {
		b, began := belief{lease: 90 * time.Second}, epoch
		b.judge(began, []answer{said("n", "a b c")})
		now := began
		for round := 1; len(b.good) > 0 && now.Sub(began) < time.Hour; round++ {
			now = now.Add(5 * time.Second)
			if round%tt.every == 0 {
				b.silence()
				continue
			}
			b.judge(now, []answer{said("n", "")})
		}
		if took := now.Sub(began); took < tt.min || took > tt.max {
			t.Errorf("with every round %d in silence, believed after %v; want %v to %v", tt.every, took, tt.min, tt.max)
		}
	}
}

// Whatever nodes say: nothing that an answer contains is left out; who is dropped
// had just been listed by the same node, which still lists half of what it did, or
// was missing for a lease; and no longer than that is anybody kept.
func TestBeliefInvariants(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		b, now := belief{lease: 90 * time.Second}, epoch
		var before verdict                   // of the last answer
		var listed answer                    // the last answer; none after silence
		lacked := map[string]time.Duration{} // between answers in a row
		seen := map[string]time.Time{}       // when an answer last contained it
		for range 40 {
			step := time.Duration(1+r.IntN(20)) * time.Second
			now = now.Add(step)
			if r.IntN(10) == 0 {
				b.silence()
				listed = answer{}
				continue
			}
			var text []string
			for i := range 6 {
				if r.IntN(3) > 0 {
					text = append(text, fmt.Sprintf("i%d", i))
				}
			}
			if r.IntN(4) == 0 {
				text = nil
			}
			a := said(fmt.Sprintf("n%d", r.IntN(2)), strings.Join(text, " "))
			v := b.judge(now, []answer{a})
			if missing := without(a.instances, v.instances); len(missing) > 0 {
				t.Fatalf("seed %d: %v of the answer %q are left out", seed, missing, text)
			}
			if !slices.IsSortedFunc(v.instances, byID) {
				t.Fatalf("seed %d: %q is not in order", seed, names(v))
			}
			for _, inst := range a.instances {
				seen[inst.ID], lacked[inst.ID] = now, 0
			}
			for _, inst := range without(before.instances, a.instances) {
				if listed.node != "" && !seen[inst.ID].Equal(now.Add(-step)) {
					lacked[inst.ID] += step
				}
			}
			for _, inst := range without(v.instances, a.instances) {
				if lacked[inst.ID] >= b.lease {
					t.Fatalf("seed %d: %s is kept after %v", seed, inst.ID, lacked[inst.ID])
				}
			}
			for _, inst := range without(before.instances, v.instances) {
				left := a.node == listed.node && len(without([]registry.Instance{inst}, listed.instances)) == 0 &&
					2*len(a.instances) >= len(listed.instances)
				if !left && now.Sub(seen[inst.ID]) < b.lease {
					t.Fatalf("seed %d: %s is dropped %v after an answer had it", seed, inst.ID, now.Sub(seen[inst.ID]))
				}
			}
			before, listed = v, a
		}
	}
}

func TestOneServerPerAddress(t *testing.T) {
	at := func(id, addr string, first time.Duration) registry.Instance {
		return registry.Instance{Service: "s", ID: id, Addrs: []string{addr}, FirstRegistered: epoch.Add(first)}
	}
	var skipped []string
	got := onePerAddress([]registry.Instance{at("killed", "h:1", 0), at("other", "h:2", 0), at("restarted", "h:1", time.Minute)},
		func(id, reason string) { skipped = append(skipped, id+": "+reason) })
	if len(got) != 2 || got[0].ID != "other" || got[1].ID != "restarted" {
		t.Errorf("left are %+v", got)
	}
	if want := `killed: "restarted" registered its address h:1 later`; len(skipped) != 1 || skipped[0] != want {
		t.Errorf("skipped %q, want %q", skipped, want)
	}
}
