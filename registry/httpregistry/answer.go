package httpregistry

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// answer is what one node knows of a service.
type answer struct {
	node      string
	date      time.Time           // the node's clock when it answered; zero if it did not say
	instances []registry.Instance // ordered by ID
	why       string              // for an answer without instances, why there are none
	skipped   []registry.Skipped  // ordered by ID
	notes     []string            // what had to be put right
	settled   string              // the node's own name, if it has been up for a lease
	entries   []wire.Instance     // as they came
}

// newAnswer sorts what a node sent into instances and what is none.
func newAnswer(node, env, service string, entries []wire.Instance, strange []string) answer {
	a := answer{node: node, entries: entries}
	skip := func(id, reason string) {
		a.skipped = append(a.skipped, registry.Skipped{ID: id, Reason: reason})
	}
	for _, text := range strange {
		skip("", text)
	}
	for _, entry := range entries {
		inst, note, err := decode(entry)
		switch {
		case entry.AppID != service || entry.Env != env:
			skip(entry.Hostname, fmt.Sprintf("it belongs to service %q in env %q", entry.AppID, entry.Env))
		case err != nil:
			skip(entry.Hostname, err.Error())
		default:
			a.instances = append(a.instances, inst)
			if note != "" {
				a.notes = append(a.notes, fmt.Sprintf("%s: %s", entry.Hostname, note))
			}
		}
	}
	a.instances = onePerAddress(a.instances, skip)
	slices.SortFunc(a.skipped, func(x, y registry.Skipped) int {
		return cmp.Or(cmp.Compare(x.ID, y.ID), cmp.Compare(x.Reason, y.Reason))
	})
	slices.Sort(a.notes)
	if len(a.instances) == 0 {
		a.why = fmt.Sprintf("%s: no instance", node)
		if len(a.skipped) > 0 {
			a.why = fmt.Sprintf("%s: none of %d entries can be called: %s: %s", node, len(a.skipped), cmp.Or(a.skipped[0].ID, "?"), a.skipped[0].Reason)
		}
	}
	return a
}

// onePerAddress leaves out of what one node sent, and sorts, whoever has an
// address that another instance registered later: on one address there is one
// server, and the other entry is what a killed predecessor left behind.
func onePerAddress(set []registry.Instance, skip func(id, reason string)) []registry.Instance {
	slices.SortFunc(set, func(x, y registry.Instance) int { // latest first
		return cmp.Or(y.FirstRegistered.Compare(x.FirstRegistered), -byID(x, y))
	})
	owners := make(map[string]string, len(set))
	ids := make(map[string]bool, len(set))
	set = slices.DeleteFunc(set, func(inst registry.Instance) bool {
		for _, addr := range inst.Addrs {
			if owner, ok := owners[addr]; ok {
				skip(inst.ID, fmt.Sprintf("%q registered its address %s later", owner, addr))
				return true
			}
		}
		for _, addr := range inst.Addrs {
			owners[addr] = inst.ID
		}
		twice := ids[inst.ID]
		ids[inst.ID] = true
		return twice
	})
	slices.SortFunc(set, byID)
	return set
}

func byID(x, y registry.Instance) int { return cmp.Compare(x.ID, y.ID) }
