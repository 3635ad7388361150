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
// has just started empty, and nodes may know different sets for good. So an
// instance that is missing from an answer has left only if the same node has just
// listed it, remembers the others and still lists half of what it did. Any other
// missing one is kept, in doubt, until it is certain that it is gone:
//
//   - answers have lacked it for one lease, in which it would have come back if it
//     lived; or
//   - two nodes that have each been up that long agree (one is enough against a set
//     that nobody has looked at for as long).
//
// What an answer does contain is used at once. It is pure: times come in, nothing
// goes out.
type belief struct {
	lease  time.Duration
	good   []registry.Instance      // the last good set, ordered by ID
	missed map[string]time.Duration // by ID, those of good in doubt: how long answers have lacked them
	from   string                   // the node that has just listed all the others; "" after silence, or if none did
	at     time.Time                // the last answer; zero after silence
	old    bool                     // nobody had looked for a lease, and nothing was confirmed since
	why    string                   // why there is no good set any more
}

// verdict is what to make of a round of answers.
type verdict struct {
	instances []registry.Instance // ordered by ID; empty: the service is unknown
	skipped   []registry.Skipped
	source    string
	reason    string // why it is unconfirmed, or why there are no instances
	certain   string // why instances in doubt were given up
	confirmed bool
}

// silence is a round in which nobody answered: what nodes say next may come from
// after a restart.
func (b *belief) silence() { b.from, b.at = "", time.Time{} }

// doubts says whether others should be asked about what a lacks.
func (b *belief) doubts(a answer) bool {
	return len(b.missing(a.instances)) > 0 && (len(b.missed) > 0 || b.suspects(a))
}

// suspects says whether a is no reason to drop anything: from another node than
// before, after silence, after a loss of memory, or much smaller.
func (b *belief) suspects(a answer) bool {
	return a.node != b.from || b.forgot(a) || 2*len(a.instances) < len(b.good)-len(b.missed)
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
	v, whole := told(answers)
	missing := b.missing(v.instances)
	b.missed, v.certain = b.inDoubt(now, missing, answers)
	kept := slices.DeleteFunc(missing, func(inst registry.Instance) bool {
		_, doubted := b.missed[inst.ID]
		return !doubted
	})
	v.instances, v.confirmed = merge(v.instances, kept), len(kept) == 0
	b.good, b.from, b.at, b.old = v.instances, whole, now, b.old && !v.confirmed
	switch {
	case len(kept) > 0:
		v.reason = fmt.Sprintf("%s; %d of %d instances are kept from before", says(answers), len(kept), len(b.good))
	case len(b.good) > 0:
		b.why = ""
	case v.certain != "":
		b.why = says(answers) + "; " + v.certain
		fallthrough
	default:
		v.reason = cmp.Or(b.why, says(answers))
	}
	return v
}

// told is what any of answers contains. What one node knows whole is taken from
// that node alone, since times of different nodes do not compare.
func told(answers []answer) (v verdict, whole string) {
	all := union(answers)
	for _, a := range answers {
		if len(without(all, a.instances)) == 0 {
			return verdict{instances: a.instances, skipped: a.skipped, source: a.node}, a.node
		}
	}
	return verdict{instances: all, skipped: answers[0].skipped, source: answers[0].node}, ""
}

// inDoubt are those of missing that may still live, with how long answers have
// lacked them; certain says why others do not.
func (b *belief) inDoubt(now time.Time, missing []registry.Instance, answers []answer) (missed map[string]time.Duration, certain string) {
	suspicious, agreed := b.suspects(answers[0]), b.agreed(answers)
	held := b.held(now)
	missed = make(map[string]time.Duration)
	for _, inst := range missing {
		age, before := b.missed[inst.ID]
		if before {
			age += held
		}
		switch {
		case !before && !suspicious: // it has left
		case agreed:
			certain = fmt.Sprintf("they agree and have been up for %v", b.lease)
		case age >= b.lease:
			certain = fmt.Sprintf("this has held for %v", b.lease)
		default:
			missed[inst.ID] = age
		}
	}
	return missed, certain
}

// held is how long what the last answer and this one lack counts as missing. The
// node may have restarted in between: so at most half a lease; and after silence
// hardly anything, but enough for a node that fails every other time to be
// believed in the end.
func (b *belief) held(now time.Time) time.Duration {
	if b.at.IsZero() {
		return b.lease / 100
	}
	return min(now.Sub(b.at), b.lease/2)
}

// agreed says whether enough of those who answered have been up for a lease.
func (b *belief) agreed(answers []answer) bool {
	settled := make(map[string]bool)
	for _, a := range answers {
		if a.settled != "" {
			settled[a.settled] = true
		}
	}
	return len(settled) >= 2 || b.old && len(settled) == 1
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
	more = without(more, set)
	if len(more) == 0 {
		return set
	}
	taken := addrsOf(set)
	merged := slices.Clone(set)
	for _, inst := range more {
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
