// Package backoff is how rollcall waits before it tries again: exponentially,
// bounded and with jitter.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy is an exponential backoff. The zero Policy does not wait.
type Policy struct {
	Base time.Duration // before the first retry
	Max  time.Duration // never longer than this; 0 means Base
}

// Delay returns how long to wait before retry n (from 0): Base·2ⁿ, at most Max,
// and of that a random share between 50 and 100 %, so that many who failed
// together do not come back together.
func (p Policy) Delay(n int) time.Duration {
	limit := max(p.Max, p.Base)
	d := max(p.Base, 0)
	for ; n > 0 && 0 < d && d < limit; n-- {
		d += min(d, limit-d)
	}
	if d <= 1 {
		return d
	}
	return d/2 + rand.N(d-d/2+1)
}

// Jitter returns d changed at random by at most share of it either way: 0.1
// gives 90 to 110 %.
func Jitter(d time.Duration, share float64) time.Duration {
	return time.Duration(float64(d) * (1 + share*(2*rand.Float64()-1)))
}

// Wait waits for d, or until ctx ends, whose error it then returns.
func Wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
