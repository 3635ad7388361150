package test

import (
	"maps"
	"math"
	"slices"
	"testing"
	"time"
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
