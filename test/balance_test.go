package test

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/balancer"
)

func TestSharesFollowThePolicy(t *testing.T) {
	_, registry := startRegistry(t, "127.0.0.1:0")
	weighted(t, registry)
	for _, tc := range []struct {
		policy    string
		want      map[string]float64
		tolerance float64
	}{
		{"weighted_round_robin", map[string]float64{"a": 0.5, "b": 0.3, "c": 0.2}, 0.01},
		{"random", map[string]float64{"a": 0.5, "b": 0.3, "c": 0.2}, 0.03}, // of 10,000 calls: 6 sigma
		{"round_robin", map[string]float64{"a": 1. / 3, "b": 1. / 3, "c": 1. / 3}, 0.01},
	} {
		t.Run(tc.policy, func(t *testing.T) {
			r := finish(t, startClient(t, registry, "-policy", tc.policy, "-warm-up", "500ms", "-rps", "2000", "-duration", arg(within(5*time.Second, 30*time.Second))))
			r.failsNone(t)
			if got, want := slices.Sorted(maps.Keys(r.PerInstance)), slices.Sorted(maps.Keys(tc.want)); !slices.Equal(got, want) {
				t.Errorf("served by %v, want %v", got, want)
			}
			for id, want := range tc.want {
				if got := float64(r.PerInstance[id]) / float64(r.OK); !(math.Abs(got-want) <= tc.tolerance) {
					t.Errorf("%s served %.2f%%, want %.2f%%", id, 100*got, 100*want)
				}
			}
		})
	}
}

// The service config of a client that runs is replaced in its file, and a bad one
// is not taken.
func TestServiceConfigFile(t *testing.T) {
	_, registry := startRegistry(t, "127.0.0.1:0")
	weighted(t, registry)
	file := filepath.Join(t.TempDir(), "config.json")
	write := func(js string) {
		if err := os.WriteFile(file, []byte(js), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(balancer.ServiceConfig(balancer.RoundRobin{}))
	client := startClient(t, registry, "-service-config", file, "-warm-up", "500ms", "-rps", "500", "-duration", "5s")
	said(t, client, " 1s ")
	write(`{"loadBalancingConfig": [{"rollcall": {"picker": {"fastest": {}}}}]}`)
	said(t, client, `unknown picker \"fastest\"`)
	write(balancer.ServiceConfig(balancer.WeightedRoundRobin{}))
	r := finish(t, client)
	r.failsNone(t)
	// It would be a third if nothing had changed, and a half if everything had.
	if got := float64(r.PerInstance["a"]) / float64(r.OK); got < 0.36 || got > 0.48 {
		t.Errorf("a served %.2f%%: it should have been a third at first and then a half", 100*got)
	}
}

// Other ways to find the servers: a filter in the target, and no registry.
func TestTargets(t *testing.T) {
	_, registry := startRegistry(t, "127.0.0.1:0")
	here := startServer(t, registry, "here", "-zone", "z1")
	startServer(t, registry, "there", "-zone", "z2")
	for target, want := range map[string][]string{
		"discovery:///echo":                          {"here", "there"},
		"discovery:///echo?zone=z1":                  {"here"},
		"passthrough:///" + listens(t, here.Process): {"here"},
	} {
		r := finish(t, startClient(t, registry, "-target", target, "-rps", "50", "-duration", "1s", "-json"))
		r.failsNone(t)
		if got := slices.Sorted(maps.Keys(r.PerInstance)); !slices.Equal(got, want) {
			t.Errorf("%s was served by %v, want %v", target, got, want)
		}
	}
}

func TestStreamsAreBalanced(t *testing.T) {
	_, registry := startRegistry(t, "127.0.0.1:0")
	startServer(t, registry, "a")
	startServer(t, registry, "b")
	r := finish(t, startClient(t, registry, "-method", "stream", "-policy", "round_robin", "-warm-up", "500ms", "-rps", "200", "-duration", "1s"))
	r.failsNone(t)
	if a, b := r.PerInstance["a"], r.PerInstance["b"]; a-b > 2 || b-a > 2 {
		t.Errorf("a served %d streams and b %d", a, b)
	}
}
