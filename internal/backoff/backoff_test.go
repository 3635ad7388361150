package backoff_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
)

func TestDelayGrowsToItsBound(t *testing.T) {
	p := backoff.Policy{Base: 100 * time.Millisecond, Max: time.Second}
	for _, test := range []struct {
		p    backoff.Policy
		n    int
		full time.Duration
	}{
		{p, 0, 100 * time.Millisecond},
		{p, 1, 200 * time.Millisecond},
		{p, 3, 800 * time.Millisecond},
		{p, 4, time.Second},
		{p, math.MaxInt, time.Second},
		{p, -1, 100 * time.Millisecond},
		{backoff.Policy{Base: time.Second}, 5, time.Second},
		{backoff.Policy{Base: time.Second, Max: time.Millisecond}, 5, time.Second},
		{backoff.Policy{Base: 1}, 0, 1},
		{backoff.Policy{Base: 1, Max: math.MaxInt64}, math.MaxInt, math.MaxInt64},
		{backoff.Policy{}, 7, 0},
		{backoff.Policy{Base: -time.Second}, 0, 0},
	} {
		for range 1000 {
			if d := test.p.Delay(test.n); d < test.full/2 || d > test.full {
				t.Fatalf("%+v: retry %d waits %v, want %v to %v", test.p, test.n, d, test.full/2, test.full)
			}
		}
	}
}

// Many who failed together do not come back together: the delays fill their
// range.
func TestDelaysAreSpread(t *testing.T) {
	p, least, most := backoff.Policy{Base: time.Second}, time.Hour, time.Duration(0)
	for range 10_000 {
		d := p.Delay(0)
		least, most = min(least, d), max(most, d)
	}
	if least > 510*time.Millisecond || most < 990*time.Millisecond {
		t.Errorf("10000 delays lie between %v and %v, want about 500ms to 1s", least, most)
	}
}

func TestJitterStaysWithinItsShare(t *testing.T) {
	for _, share := range []float64{0, 0.1, 1} {
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range 10_000 {
			d := backoff.Jitter(time.Second, share)
			least, most = min(least, d), max(most, d)
		}
		low, high := time.Duration((1-share)*1e9), time.Duration((1+share)*1e9)
		if slack := time.Duration(share * 1e7); least < low || most > high || least > low+slack || most < high-slack {
			t.Errorf("share %v: between %v and %v, want to fill %v to %v", share, least, most, low, high)
		}
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		soon, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, test := range []struct {
			name string
			ctx  context.Context
			d    time.Duration
			err  error
			took time.Duration
		}{
			{"to the end", t.Context(), 30 * time.Second, nil, 30 * time.Second},
			{"not at all", t.Context(), 0, nil, 0},
			{"less than that", t.Context(), -time.Second, nil, 0},
			{"with an ended context", ended, time.Hour, context.Canceled, 0},
			{"with an ended context, not at all", ended, 0, context.Canceled, 0},
			{"until the context ends", soon, time.Hour, context.DeadlineExceeded, 30 * time.Second}, // half of soon is over
		} {
			begin := time.Now()
			if err := backoff.Wait(test.ctx, test.d); err != test.err || time.Since(begin) != test.took {
				t.Errorf("%s: %v after %v, want %v after %v", test.name, err, time.Since(begin), test.err, test.took)
			}
		}
	})
}
