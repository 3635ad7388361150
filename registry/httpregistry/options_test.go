package httpregistry

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

func TestOptions(t *testing.T) {
	tests := []struct {
		name string
		opt  Option
		want string // part of the error; "": none
	}{
		{"defaults", func(*config) {}, ""},
		{"env", WithEnv("prod_1"), ""},
		{"env with '-'", WithEnv("prod-eu"), `env "prod-eu" contains '-', which the registry separates service and environment with: use another character`},
		{"no env", WithEnv(""), "env is empty"},
		{"env in no UTF-8", WithEnv("\xff"), "not UTF-8"},
		{"no timeout", WithTimeout(0), "timeout is 0s: it must be positive"},
		{"poll", WithPollInterval(-time.Second), "poll interval is -1s: it must be positive"},
		{"heartbeat", WithHeartbeat(0), "heartbeat is 0s: it must be positive"},
		{"lease", WithLease(0), "lease is 0s: it must be positive"},
		{"heartbeat too long", WithHeartbeat(90 * time.Second), "heartbeat 1m30s is not shorter than the lease 1m30s"},
		{"size", WithMaxResponse(0), "the largest answer is 0 bytes: it must be positive"},
		{"logger", WithLogger(nil), "the logger is nil"},
	}
	for _, tt := range tests {
		c, err := New([]string{"10.0.0.1:6666"}, tt.opt)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (!errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if c != nil {
			c.Close()
		}
	}
	_, err := New(nil, WithEnv("a-b"), WithTimeout(0))
	for _, want := range []string{"no registry address", "contains '-'", "timeout is 0s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("several mistakes: %v, want also %q", err, want)
		}
	}
}
