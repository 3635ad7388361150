package main

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder notes when calls were scheduled and when they began.
type recorder struct {
	mu      sync.Mutex // guards all below
	late    []time.Duration
	dropped int
}

func (r *recorder) call(scheduled time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late = append(r.late, time.Since(scheduled))
}

func (r *recorder) drop() { r.dropped++ }

func TestLoadStartsEveryCallOnSchedule(t *testing.T) {
	for _, tc := range []struct {
		rate     float64
		duration time.Duration
		want     int
	}{
		{2000, 3 * time.Second, 6000},
		{5000, time.Second, 5000},
		{333, time.Second, 333},
		{7, 2 * time.Second, 14},
		{0.5, time.Second, 1}, // at least one
	} {
		synctest.Test(t, func(t *testing.T) {
			var r recorder
			begin := time.Now()
			load{rate: tc.rate, duration: tc.duration, maxInFlight: 100, call: r.call, drop: r.drop}.run(t.Context())
			if len(r.late) != tc.want || r.dropped != 0 {
				t.Errorf("rate %v for %v: %d calls and %d dropped, want %d and 0", tc.rate, tc.duration, len(r.late), r.dropped, tc.want)
			}
			if took := time.Since(begin); took > tc.duration {
				t.Errorf("rate %v for %v took %v", tc.rate, tc.duration, took)
			}
			for _, late := range r.late {
				if late != 0 {
					t.Fatalf("rate %v: a call began %v after it was due", tc.rate, late)
				}
			}
		})
	}
}

// Calls that hang do not slow the schedule; those over the bound are dropped and
// counted, and the end waits for all.
func TestLoadIsOpenAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		hang := func(at time.Time) {
			r.call(at)
			time.Sleep(10 * time.Second)
		}
		begin := time.Now()
		load{rate: 1000, duration: time.Second, maxInFlight: 50, call: hang, drop: r.drop}.run(t.Context())
		if len(r.late) != 50 || r.dropped != 950 {
			t.Errorf("%d calls and %d dropped, want 50 and 950", len(r.late), r.dropped)
		}
		if took := time.Since(begin); took < 10*time.Second {
			t.Errorf("returned after %v, before its calls ended", took)
		}
	})
}

func TestLoadStopsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		var r recorder
		load{rate: 100, maxInFlight: 10, call: r.call, drop: r.drop}.run(ctx)
		if len(r.late) < 150 || len(r.late) > 151 {
			t.Errorf("%d calls in 1.5 s at 100/s", len(r.late))
		}
	})
}
