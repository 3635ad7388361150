package balancer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/serviceconfig"
)

// config is the policy's configuration as gRPC hands it about. Configurations are
// compared with ==.
type config struct {
	serviceconfig.LoadBalancingConfig
	settings
}

// settings are what a configuration says. A feature that is zero is off.
type settings struct {
	picker    Picker
	stall     StallDetection
	ejection  Ejection
	slowStart SlowStart
	zone      Zone
	subset    Subset
}

// defaultSettings are those of a configuration that says nothing.
func defaultSettings() settings {
	stall, _ := StallDetection{}.complete()
	return settings{picker: WeightedRoundRobin{}, stall: stall}
}

// The fields of a configuration.
const (
	pickerField    = "picker"
	stallField     = "stallDetection"
	ejectionField  = "ejection"
	slowStartField = "slowStart"
	zoneField      = "zone"
	subsetField    = "subset"
)

// fields decode each field of a configuration into settings.
var fields = map[string]func(*settings, json.RawMessage) error{
	pickerField:    decodePicker,
	stallField:     func(s *settings, js json.RawMessage) error { return decode(stallField, js, &s.stall) },
	ejectionField:  func(s *settings, js json.RawMessage) error { return decode(ejectionField, js, &s.ejection) },
	slowStartField: func(s *settings, js json.RawMessage) error { return decode(slowStartField, js, &s.slowStart) },
	zoneField:      func(s *settings, js json.RawMessage) error { return decode(zoneField, js, &s.zone) },
	subsetField:    func(s *settings, js json.RawMessage) error { return decode(subsetField, js, &s.subset) },
}

// MarshalJSON makes the configuration legible in gRPC's own logs.
func (c *config) MarshalJSON() ([]byte, error) { return json.Marshal(c.settings.fields()) }

// fields returns the settings as parseConfig reads them, without those that are
// off or say what is the default.
func (s settings) fields() map[string]any {
	out := map[string]any{}
	set := func(field string, value, without any) {
		if value != without {
			out[field] = value
		}
	}
	if s.picker != nil {
		out[pickerField] = map[string]Picker{s.picker.name(): s.picker}
	}
	if s.stall != (StallDetection{}) {
		set(stallField, s.stall, defaultSettings().stall)
	}
	set(ejectionField, s.ejection, Ejection{})
	set(slowStartField, s.slowStart, SlowStart{})
	set(zoneField, s.zone, Zone{})
	set(subsetField, s.subset, Subset{})
	return out
}

// parseConfig decodes the policy's configuration. Unknown fields are ignored, as
// gRPC asks for the sake of older clients, unless they look like a mistake.
func parseConfig(js json.RawMessage) (*config, error) {
	cfg := &config{settings: defaultSettings()}
	if len(js) == 0 {
		return cfg, nil
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(js, &given); err != nil {
		return nil, fmt.Errorf("balancer: the configuration of %q must be an object, as in %s: %w", Name, example(defaultSettings().picker), err)
	}
	for _, field := range slices.Sorted(maps.Keys(given)) {
		read, ok := fields[field]
		if !ok {
			if err := mistaken(field); err != nil {
				return nil, err
			}
			continue
		}
		if isNull(given[field]) { // how JSON says that nothing is given
			continue
		}
		if err := read(&cfg.settings, given[field]); err != nil {
			return nil, err
		}
	}
	return cfg, nil
}

func isNull(js json.RawMessage) bool { return bytes.Equal(bytes.TrimSpace(js), []byte("null")) }

// feature is the configuration of something besides the picker. Its zero fields
// stand for their defaults.
type feature[F any] interface {
	// complete returns it with its defaults, or an error that quotes the rule it
	// breaks.
	complete() (F, error)
}

// decode reads the configuration of a feature.
func decode[F feature[F]](field string, js json.RawMessage, into *F) error {
	var given F
	if err := json.Unmarshal(js, &given); err != nil {
		return fmt.Errorf("balancer: %s: %w", field, err)
	}
	var names map[string]json.RawMessage
	if err := json.Unmarshal(js, &names); err != nil {
		return fmt.Errorf("balancer: %s must be an object: %w", field, err)
	}
	known := fieldNames(reflect.TypeFor[F]())
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if meant, ok := closest(name, known); ok && meant != name {
			return fmt.Errorf("balancer: %s: unknown field %q: write %q", field, name, meant)
		}
	}
	complete, err := given.complete()
	if err != nil {
		return fmt.Errorf("balancer: %s: %w", field, err)
	}
	*into = complete
	return nil
}

// fieldNames are the names of a struct's fields in JSON.
func fieldNames(t reflect.Type) (names []string) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// mistaken says what is wrong with a field that is not known but looks like one
// that is, and which would otherwise silently do nothing.
func mistaken(field string) error {
	if _, ok := pickers[field]; ok {
		return fmt.Errorf("balancer: %q belongs into %q: {%q: {%q: {}}}", field, pickerField, pickerField, field)
	}
	if meant, ok := closest(field, slices.Sorted(maps.Keys(fields))); ok {
		return fmt.Errorf("balancer: unknown field %q: write %q", field, meant)
	}
	return nil
}

// closest returns the one of names that field was probably meant to be.
func closest(field string, names []string) (string, bool) {
	best := slices.MinFunc(names, func(a, b string) int { return cmp.Compare(unlike(field, a), unlike(field, b)) })
	return best, unlike(field, best) <= 2
}

// unlike is how far a field is from a name, whatever the case, and 0 only if they
// are the same to the letter.
func unlike(field, name string) int {
	if field == name {
		return 0
	}
	return max(1, distance(strings.ToLower(field), strings.ToLower(name)))
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

// Duration is a time span in a configuration, in JSON a string like "1.5s".
type Duration time.Duration

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON implements json.Unmarshaler. The error for anything else than a
// string that time.ParseDuration takes says so.
func (d *Duration) UnmarshalJSON(js []byte) error {
	var text string
	if err := json.Unmarshal(js, &text); err != nil {
		return fmt.Errorf(`a time must be a string like "1.5s", not %s`, js)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf(`a time must be a string like "1.5s": %w`, err)
	}
	*d = Duration(parsed)
	return nil
}

// rules collects what is wrong with a configuration.
type rules []string

// want adds the rule unless it holds. NaN holds in no comparison.
func (r *rules) want(holds bool, rule string, args ...any) {
	if !holds {
		*r = append(*r, fmt.Sprintf(rule, args...))
	}
}

func (r rules) err() error {
	if len(r) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(r, "; "))
}
