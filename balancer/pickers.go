package balancer

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Picker says how one of the ready instances is chosen for a call, and is its own
// configuration: Random, RoundRobin, WeightedRoundRobin, P2C or LeastRequest.
// Pickers are compared with ==.
type Picker interface {
	// name is the picker's key in a configuration.
	name() string
	// share is what the picker makes of an instance's weight, which is not 0: its
	// share of the calls, in proportion to that of others. It is not 0 either.
	share(weight uint32) uint32
	// schedule prepares picks from ready, which has at least one element and is
	// in a stable order; shares are theirs and not 0. at is the same for all
	// schedules of a balancer.
	schedule(ready []*conn, shares []uint32, at *position) schedule
}

// schedule is one picker's choice among connections. It is immutable but for
// positions and counters, and safe for concurrent use.
type schedule interface {
	// next is whose turn it is. The engine asks again, and then for somebody chosen
	// afresh, when it has a reason not to use that one. dice are at random where the
	// pick itself is.
	next(afresh bool) (c *conn, dice uint64)
}

// pickers decode the configuration of each picker, by its name. Each picker's
// file adds its own in init; afterwards the map only is read.
var pickers = map[string]func(json.RawMessage) (Picker, error){}

// register makes the picker known under its name. check may be nil; it returns an
// error that quotes the rule which a configuration breaks.
func register[P Picker](defaults P, check func(P) error) {
	pickers[defaults.name()] = func(js json.RawMessage) (Picker, error) {
		p := defaults
		if err := json.Unmarshal(js, &p); err != nil {
			return nil, fmt.Errorf("balancer: picker %q takes an object, as in %s: %w", p.name(), example(defaults), err)
		}
		if check != nil {
			if err := check(p); err != nil {
				return nil, fmt.Errorf("balancer: picker %q: %w", p.name(), err)
			}
		}
		return p, nil
	}
}

// ParsePicker returns the picker of that name with its defaults, for flags and
// configuration files. The error for another name lists the known ones.
func ParsePicker(name string) (Picker, error) {
	decode, ok := pickers[name]
	if !ok {
		return nil, fmt.Errorf("balancer: unknown picker %q: the known ones are %s", name, knownPickers())
	}
	return decode(json.RawMessage("{}"))
}

func knownPickers() string { return strings.Join(slices.Sorted(maps.Keys(pickers)), ", ") }

func example(p Picker) string {
	js, err := json.Marshal(settings{picker: p}.fields())
	if err != nil {
		return err.Error()
	}
	return string(js)
}

func decodePicker(s *settings, js json.RawMessage) error {
	rule := fmt.Sprintf("%q must hold exactly one of %s, as in %s", pickerField, knownPickers(), example(s.picker))
	var given map[string]json.RawMessage
	if err := json.Unmarshal(js, &given); err != nil {
		return fmt.Errorf("balancer: %s: %w", rule, err)
	}
	names := slices.Sorted(maps.Keys(given))
	if len(names) != 1 {
		return fmt.Errorf("balancer: %s; it holds %d: %s", rule, len(names), strings.Join(names, ", "))
	}
	decode, ok := pickers[names[0]]
	if !ok {
		return fmt.Errorf("balancer: unknown picker %q: %s", names[0], rule)
	}
	p, err := decode(given[names[0]])
	if err == nil {
		s.picker = p
	}
	return err
}
