package balancer

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/serviceconfig"
)

// Picker says how one of the ready instances is chosen for a call, and is its own
// configuration: Random, RoundRobin or WeightedRoundRobin. Pickers are compared
// with ==.
type Picker interface {
	// name is the picker's key in a configuration.
	name() string
	// schedule prepares picks from ready, which has at least one element and is
	// in a stable order; weights are theirs and not 0. at is the same for all
	// schedules of a balancer.
	schedule(ready []*conn, weights []uint32, at *position) schedule
}

// schedule is one picker's choice among connections. It is immutable but for
// positions and counters, and safe for concurrent use.
type schedule interface {
	// next is whose turn it is. The engine asks again when it has a reason not to
	// use that one.
	next() *conn
}

// pickers decode the configuration of each picker, by its name. Each picker's
// file adds its own in init; afterwards the map only is read.
var pickers = map[string]func(json.RawMessage) (Picker, error){}

// register makes the picker known under its name. p holds its defaults.
func register[P Picker](p P) {
	pickers[p.name()] = func(js json.RawMessage) (Picker, error) {
		cfg := p
		if err := json.Unmarshal(js, &cfg); err != nil {
			return nil, fmt.Errorf("balancer: picker %q takes an object, as in %s: %w", p.name(), example(p), err)
		}
		return cfg, nil
	}
}

// defaultPicker is what a configuration without a picker gets.
var defaultPicker Picker = WeightedRoundRobin{}

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

// config is the policy's configuration as gRPC hands it about.
type config struct {
	serviceconfig.LoadBalancingConfig
	picker Picker
}

// pickerField is the field of the configuration that holds the picker.
const pickerField = "picker"

// MarshalJSON makes the configuration legible in gRPC's own logs.
func (c *config) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]map[string]Picker{pickerField: {c.picker.name(): c.picker}})
}

func example(p Picker) string {
	js, err := json.Marshal(&config{picker: p})
	if err != nil {
		return err.Error()
	}
	return string(js)
}

// parseConfig decodes the policy's configuration. Unknown fields are ignored, as
// gRPC asks for the sake of older clients, unless they look like a mistake.
func parseConfig(js json.RawMessage) (*config, error) {
	cfg := &config{picker: defaultPicker}
	if len(js) == 0 {
		return cfg, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(js, &fields); err != nil {
		return nil, fmt.Errorf("balancer: the configuration of %q must be an object, as in %s: %w", Name, example(defaultPicker), err)
	}
	for field, value := range fields {
		if field != pickerField {
			if err := mistaken(field); err != nil {
				return nil, err
			}
			continue
		}
		var err error
		if cfg.picker, err = parsePicker(value); err != nil {
			return nil, err
		}
	}
	return cfg, nil
}

func parsePicker(js json.RawMessage) (Picker, error) {
	rule := fmt.Sprintf("%q must hold exactly one of %s, as in %s", pickerField, knownPickers(), example(defaultPicker))
	var given map[string]json.RawMessage
	if err := json.Unmarshal(js, &given); err != nil {
		return nil, fmt.Errorf("balancer: %s: %w", rule, err)
	}
	if given == nil {
		return defaultPicker, nil // null is how JSON says that nothing is given
	}
	names := slices.Sorted(maps.Keys(given))
	if len(names) != 1 {
		return nil, fmt.Errorf("balancer: %s; it holds %d: %s", rule, len(names), strings.Join(names, ", "))
	}
	decode, ok := pickers[names[0]]
	if !ok {
		return nil, fmt.Errorf("balancer: unknown picker %q: %s", names[0], rule)
	}
	return decode(given[names[0]])
}

// mistaken says what is wrong with a field that is not known but looks like one
// that is, and which would otherwise silently do nothing.
func mistaken(field string) error {
	if _, ok := pickers[field]; ok {
		return fmt.Errorf("balancer: %q belongs into %q: {%q: {%q: {}}}", field, pickerField, pickerField, field)
	}
	if distance(strings.ToLower(field), pickerField) <= 2 {
		return fmt.Errorf("balancer: unknown field %q: write %q", field, pickerField)
	}
	return nil
}

// distance is how many bytes must be inserted, removed or replaced to make b of
// a, or a big number when they differ too much in length for that to matter.
func distance(a, b string) int {
	if len(a) > 2*len(b) {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
