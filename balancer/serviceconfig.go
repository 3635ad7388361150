package balancer

import (
	"encoding/json"
	"maps"
	"strings"
)

// ConfigOption adds to what ServiceConfig returns.
type ConfigOption func(*configOptions)

type configOptions struct{ base string }

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

// ServiceConfig returns the service config in JSON that switches the policy on
// with this picker (nil: the default), for grpc.WithDefaultServiceConfig or for
// a resolver to send.
func ServiceConfig(p Picker, opts ...ConfigOption) string {
	var o configOptions
	for _, opt := range opts {
		opt(&o)
	}
	if p == nil {
		p = defaultPicker
	}
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
	fields["loadBalancingConfig"] = []map[string]*config{{Name: {picker: p}}}
	js, err := json.Marshal(fields)
	if err != nil { // cannot be: base was JSON, and pickers are plain structs
		return err.Error()
	}
	return string(js)
}
