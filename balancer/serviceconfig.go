package balancer

import (
	"encoding/json"
	"maps"
	"strings"
)

// ConfigOption adds to what ServiceConfig returns.
type ConfigOption func(*configOptions)

type configOptions struct {
	base     string
	features map[string]any // by field
}

// WithBase makes the returned service config one that contains base, a service
// config in JSON of the user's own: its methodConfig, retryThrottling and
// healthCheckConfig stay, its load balancing policy is replaced. It is needed
// because to gRPC a service config replaces another one whole.
//
// A base that is not a JSON object is returned as it is, so that gRPC refuses it
// with its own error.
func WithBase(base string) ConfigOption {
	return func(o *configOptions) { o.base = base }
}

// with makes an option of a feature.
func with(field string, feature any) ConfigOption {
	return func(o *configOptions) { o.features[field] = feature }
}

// WithEjection switches outlier ejection on.
func WithEjection(e Ejection) ConfigOption { return with(ejectionField, e) }

// WithStallDetection sets when an instance counts as stalled, or switches that off.
func WithStallDetection(s StallDetection) ConfigOption { return with(stallField, s) }

// WithSlowStart switches slow start on.
func WithSlowStart(s SlowStart) ConfigOption { return with(slowStartField, s) }

// WithZone switches the preference for the client's own zone on.
func WithZone(z Zone) ConfigOption { return with(zoneField, z) }

// WithSubset connects the client to some of the instances only.
func WithSubset(s Subset) ConfigOption { return with(subsetField, s) }

// ServiceConfig returns the service config in JSON that switches the policy on
// with this picker (nil: the default) and what the options add, for
// grpc.WithDefaultServiceConfig or for a resolver to send. What is out of range in
// it is refused by gRPC, at the first occasion, with the rule it breaks.
func ServiceConfig(p Picker, opts ...ConfigOption) string {
	o := configOptions{features: map[string]any{}}
	for _, opt := range opts {
		opt(&o)
	}
	if p == nil {
		p = defaultSettings().picker
	}
	o.features[pickerField] = map[string]Picker{p.name(): p}
	fields := map[string]any{}
	if o.base != "" {
		var base map[string]json.RawMessage
		if err := json.Unmarshal([]byte(o.base), &base); err != nil {
			return o.base
		}
		for field, value := range base {
			fields[field] = value
		}
	}
	maps.DeleteFunc(fields, func(field string, _ any) bool { // gRPC does not look at the case
		return strings.EqualFold(field, "loadBalancingConfig") || strings.EqualFold(field, "loadBalancingPolicy")
	})
	fields["loadBalancingConfig"] = []map[string]any{{Name: o.features}}
	js, err := json.Marshal(fields)
	if err != nil { // cannot be: base was JSON, and features are plain structs, unless one holds NaN
		return err.Error()
	}
	return string(js)
}
