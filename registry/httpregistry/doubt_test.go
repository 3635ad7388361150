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
			{after: 89 * time.Second, answers: []answer{said("n", "")}, want: "a b?"},
			{after: time.Second, answers: []answer{said("n", "")}, want: ""},
			one("", said("n", "")), one("c", said("n", "c")),
		}},
		{"a small set is no news for a lease, then it is", []round{
			one("a b c", said("n", "a b c")), one("a b c?", said("n", "a")),
			{after: 90 * time.Second, answers: []answer{said("n", "a")}, want: "a"},
		}},
		{"all back ends the doubt", []round{
			one("a b c", said("n", "a b c")), one("a b c?", said("n", "")), one("a b c", said("n", "a b c")),
			{after: 200 * time.Second, answers: []answer{said("n", "")}, want: "a b c?"}, // a new one
		}},
		{"what is back by and by is used, and nothing dropped before the lease", []round{
			one("a b c d", said("n", "a b c d")), one("a b c d?", said("n", "")), one("a b c d?", said("n", "a b")), one("a b c d?", said("n", "a b c")),
			{after: 80 * time.Second, answers: []answer{said("n", "a b c")}, want: "a b c"},
		}},
		{"new ones are used in doubt", []round{
			one("a b", said("n", "a b")), one("a b?", said("n", "")), one("a b x?", said("n", "x")), one("a b x?", said("n", "")), one("a b x", said("n", "a b x")),
		}},
		{"an address taken over is not missing", []round{one("a", said("n", "a")), one("a?", said("n", "")), one("A", said("n", "A"))}},
		{"silence keeps the set and starts the lease anew", []round{
			one("a b", said("n", "a b")), one("a b?", said("n", "")),
			{after: 80 * time.Second, silence: true},
			{after: 80 * time.Second, answers: []answer{said("n", "")}, want: "a b?"},
			{after: 89 * time.Second, answers: []answer{said("n", "")}, want: "a b?"},
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
				if r.silence {
					b.silence()
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

// Whatever nodes say: nothing that an answer contains is left out, a set of the
// last lease is never dropped for one node's word below half, and a doubt never
// outlives the lease.
func TestBeliefInvariants(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		b, now := belief{lease: 90 * time.Second}, epoch
		var doubtSince time.Time
		before := 0
		for range 40 {
			now = now.Add(time.Duration(1+r.IntN(20)) * time.Second)
			if r.IntN(10) == 0 {
				b.silence()
				doubtSince = time.Time{}
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
			switch {
			case v.confirmed:
				held := !doubtSince.IsZero() && now.Sub(doubtSince) >= b.lease
				if 2*len(v.instances) < before && !held {
					t.Fatalf("seed %d: %d of %d were believed at once", seed, len(v.instances), before)
				}
				doubtSince = time.Time{}
			case doubtSince.IsZero():
				doubtSince = now
			case now.Sub(doubtSince) >= b.lease:
				t.Fatalf("seed %d: the doubt has lasted %v", seed, now.Sub(doubtSince))
			}
			before = len(v.instances)
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
