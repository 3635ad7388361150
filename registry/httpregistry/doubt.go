package httpregistry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// belief is what is held true about one service, and the judgement of what nodes
// say against it. A registry node answers "unknown" with full confidence when it
// has just started empty, and nodes may know different sets for good; so what is
// missing from an answer stays until that is certain:
//
//   - no news: fewer than half of the last good set, or anything missing in the
//     first answer after a break (nobody answered, another node answers, or the
//     node has forgotten when it first saw an instance);
//   - certain: the doubt has lasted one lease, in which every living instance
//     would have come back, or two nodes that have each been up that long agree.
//
// What an answer does contain is used at once. It is pure: times come in, nothing
// goes out.
type belief struct {
	lease time.Duration
	good  []registry.Instance // the last good set, ordered by ID
	from  string              // the node that confirmed it alone, or ""
	gap   bool                // nobody answered since
	since time.Time           // when the doubt began; zero: there is none
	why   string              // why there is no good set any more
}

// verdict is what to make of a round of answers.
type verdict struct {
	instances []registry.Instance // ordered by ID; empty: the service is unknown
	skipped   []registry.Skipped
	source    string
	reason    string // why it is unconfirmed, or why there are no instances
	certain   string // why a doubt was given up
	confirmed bool
}

// forget drops what was believed.
func (b *belief) forget() { *b = belief{lease: b.lease} }

// silence is a round in which nobody answered: what nodes say next may come from
// after a restart, and a doubt starts anew.
func (b *belief) silence() { b.gap, b.since = true, time.Time{} }

// doubts says whether a alone is no reason to drop what it lacks.
func (b *belief) doubts(a answer) bool {
	if len(b.missing(a.instances)) == 0 {
		return false
	}
	return !b.since.IsZero() || b.gap || a.node != b.from ||
		2*len(a.instances) < len(b.good) || b.forgot(a)
}

// missing are the good instances that set lacks. One whose address another one
// has taken over is not missing but gone.
func (b *belief) missing(set []registry.Instance) []registry.Instance {
	missing := without(b.good, set)
	if len(missing) == 0 {
		return nil
	}
	taken := addrsOf(set)
	return slices.DeleteFunc(missing, func(inst registry.Instance) bool { return anyIn(inst.Addrs, taken) })
}

// without are the instances of set whose ID is not in other.
func without(set, other []registry.Instance) []registry.Instance {
	var rest []registry.Instance
	for _, inst := range set {
		if _, ok := slices.BinarySearchFunc(other, inst, byID); !ok {
			rest = append(rest, inst)
		}
	}
	return rest
}

// forgot says whether the node that told us the good set now says of the same
// process that it saw it first at another time: it lost its memory in between.
func (b *belief) forgot(a answer) bool {
	for _, inst := range a.instances {
		i, ok := slices.BinarySearchFunc(b.good, inst, byID)
		if ok && b.good[i].Life == inst.Life && !b.good[i].FirstRegistered.Equal(inst.FirstRegistered) {
			return true
		}
	}
	return false
}

// judge takes the answers of one round: first that of the node asked normally,
// and then, if that one was doubtful, those of others.
func (b *belief) judge(now time.Time, answers []answer) verdict {
	first := answers[0]
	known := union(answers)
	v := verdict{instances: known, skipped: first.skipped, source: first.node, confirmed: true}
	missing := b.missing(known)
	if len(missing) > 0 && b.doubts(first) {
		if b.since.IsZero() {
			b.since = now
		}
		v.certain = b.certain(now, answers)
		if v.certain == "" {
			b.good = merge(known, missing)
			v.instances, v.confirmed = b.good, false
			v.reason = fmt.Sprintf("%s; %d of %d instances are kept from before", says(answers), len(missing), len(b.good))
			return v
		}
		b.why = says(answers) + "; " + v.certain
	}
	b.believe(&v, answers)
	return v
}

// certain says why what is missing from all answers can be believed to be gone,
// or "".
func (b *belief) certain(now time.Time, answers []answer) string {
	settled := make(map[string]bool)
	for _, a := range answers {
		if a.settled != "" {
			settled[a.settled] = true
		}
	}
	switch {
	case len(settled) >= 2:
		return fmt.Sprintf("they agree and have been up for %v", b.lease)
	case now.Sub(b.since) >= b.lease:
		return fmt.Sprintf("this has held for %v", b.lease)
	}
	return ""
}

// believe makes v's instances the good set. What one node knows whole is taken
// from that node alone, since times of different nodes do not compare.
func (b *belief) believe(v *verdict, answers []answer) {
	b.from = ""
	for _, a := range answers {
		if len(without(v.instances, a.instances)) == 0 {
			v.instances, v.skipped, v.source, b.from = a.instances, a.skipped, a.node, a.node
			break
		}
	}
	b.good, b.gap, b.since = v.instances, false, time.Time{}
	if len(v.instances) > 0 {
		b.why = ""
		return
	}
	v.reason = cmp.Or(b.why, says(answers))
}

// says sums up what each node said.
func says(answers []answer) string {
	texts := make([]string, len(answers))
	for i, a := range answers {
		texts[i] = cmp.Or(a.why, fmt.Sprintf("%s: %d instances", a.node, len(a.instances)))
	}
	return strings.Join(texts, ", ")
}

// union is what any of answers contains; what several do, as the first has it.
func union(answers []answer) []registry.Instance {
	set := answers[0].instances
	for _, a := range answers[1:] {
		set = merge(set, a.instances)
	}
	return set
}

// merge is set and what of more has neither an ID nor an address of it.
func merge(set, more []registry.Instance) []registry.Instance {
	taken := addrsOf(set)
	merged := slices.Clone(set)
	for _, inst := range without(more, set) {
		if !anyIn(inst.Addrs, taken) {
			merged = append(merged, inst)
		}
	}
	slices.SortFunc(merged, byID)
	return merged
}

func addrsOf(set []registry.Instance) map[string]bool {
	addrs := make(map[string]bool, len(set))
	for _, inst := range set {
		for _, addr := range inst.Addrs {
			addrs[addr] = true
		}
	}
	return addrs
}

func anyIn(addrs []string, set map[string]bool) bool {
	return slices.ContainsFunc(addrs, func(addr string) bool { return set[addr] })
}
