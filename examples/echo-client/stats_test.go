package main

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestHistogramQuantiles(t *testing.T) {
	var h histogram
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	for _, tc := range []struct {
		q    float64
		want time.Duration
	}{{0, time.Millisecond}, {0.5, 500 * time.Millisecond}, {0.99, 990 * time.Millisecond}, {1, time.Second}} {
		got := h.quantile(tc.q)
		if got < tc.want || got > tc.want+tc.want/64+time.Millisecond {
			t.Errorf("quantile %v is %v, want %v and at most 1/64 more", tc.q, got, tc.want)
		}
	}
	if got := new(histogram).quantile(0.99); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}

func TestHistogramTakesAnyDuration(t *testing.T) {
	for _, d := range []time.Duration{-1, 0, 1, 127, 128, 129, 1<<20 - 1, 1 << 20, 1<<63 - 1} {
		var h histogram
		h.add(d)
		if got := h.quantile(0.5); got != max(d, 0) {
			t.Errorf("the only latency is %v, its quantile %v", d, got)
		}
	}
	for d := time.Duration(1); d < 1<<40; d = d*9/8 + 1 {
		if got := upperBound(bucketOf(d)); got < d || got > d+d/64 {
			t.Errorf("%d is in a bucket that ends at %d", d, got)
		}
	}
}

func TestReportCountsCallsAndKindsOfError(t *testing.T) {
	var seen []message
	s := newStats(func(m message) { seen = append(seen, m) })
	for range 3 {
		s.done("a", nil, time.Millisecond)
	}
	s.done("b", nil, 2*time.Millisecond)
	s.done("", status.Error(codes.Unavailable, "dial 10.0.0.1:1234 refused"), time.Millisecond)
	s.done("", status.Error(codes.Unavailable, "dial 10.0.0.7:4321 refused"), time.Millisecond) // the same kind
	s.done("", status.Error(codes.Internal, "broken"), time.Millisecond)
	s.dropped()
	s.attempt("")
	s.attempt("never_picked")

	r := s.report()
	if r.Calls != 8 || r.OK != 4 || r.Failed != 4 || r.Dropped != 1 || r.Attempts != 2 {
		t.Errorf("got %+v", r)
	}
	if want := map[string]int64{"Unavailable": 2, "Internal": 1, "Dropped": 1}; !maps.Equal(r.Errors, want) {
		t.Errorf("errors %v, want %v", r.Errors, want)
	}
	if want := map[string]int64{"a": 3, "b": 1}; !maps.Equal(r.PerInstance, want) {
		t.Errorf("per instance %v, want %v", r.PerInstance, want)
	}
	if want := map[string]int64{"never_picked": 1}; !maps.Equal(r.Classes, want) {
		t.Errorf("classes %v, want %v", r.Classes, want)
	}
	if len(r.Messages) != 2 || r.Messages[0].Count != 2 || len(seen) != 2 {
		t.Errorf("messages %+v, told of %+v; want 2 kinds of error", r.Messages, seen)
	}
	if taken := s.takeInterval(); taken.ok != 4 || taken.failed != 4 {
		t.Errorf("the interval has %d ok and %d failed", taken.ok, taken.failed)
	}
	if taken := s.takeInterval(); taken.ok != 0 || taken.latency.count != 0 {
		t.Errorf("the next interval begins with %d calls", taken.ok)
	}
}

// The names are a contract with whoever reads the last line.
func TestReportJSONNames(t *testing.T) {
	line, err := json.Marshal(newStats(nil).report())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"calls", "ok", "failed", "errors", "classes", "per_instance", "attempts", "p50_ms", "p99_ms", "max_ms"} {
		if got[name] == nil {
			t.Errorf("%s is missing in %s", name, line)
		}
	}
}
