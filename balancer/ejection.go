package balancer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc/connectivity"
)

// Ejection takes instances out of the rotation whose calls fail, for a time that
// doubles with each ejection. It is off unless it is configured.
//
// A failure is an answer Unavailable, a connection that was lost or could not take
// the call, and an attempt that a policy's own time limit ended (failmode's
// timeout of an attempt). What the caller cancels, and the caller's own deadline,
// count for nothing; everything else that is answered is a success.
//
// An instance is ejected after ConsecutiveFailures in a row, and when its share of
// failures over an Interval is above that of all others by more than Tolerance and
// by more than chance explains (three standard deviations). Calls that were made while
// ejection was off do not count, nor do those of an instance that ended before it came
// back.
//
// When the time of an ejected instance is over it is tried with one call at a time, or
// after 10 seconds with another one; after as many successes in a row as Trials says it
// is back, and after a failure it is out again. Each Interval without an ejection halves
// what the next one will last.
//
// Never are so many out that those left have less than MinHealthy of the weight of
// all that are connected and do not drain: then those that have failed least are
// used all the same.
//
// Fields that are zero stand for their defaults.
type Ejection struct {
	// ConsecutiveFailures ejects at once. The default is 5; a number that is never
	// reached switches it off.
	ConsecutiveFailures uint32 `json:"consecutiveFailures,omitzero"`
	// Interval is the time over which shares of failures are compared, at least 1s:
	// who compares more often meets chance more often. The default is 5s.
	Interval Duration `json:"interval,omitzero"`
	// MinCalls is how many calls an instance must have had in an Interval, and all
	// others together, for its share to be compared. The default is 20.
	MinCalls uint32 `json:"minCalls,omitzero"`
	// Tolerance is how much higher than the others' the share of failures may be.
	// The default is 0.1; 1 switches the comparison off.
	Tolerance float64 `json:"tolerance,omitzero"`
	// BaseTime is how long a first ejection lasts. The default is 2s.
	BaseTime Duration `json:"baseTime,omitzero"`
	// MaxTime is how long an ejection lasts at most. The default is 20s, or BaseTime
	// if that is longer.
	MaxTime Duration `json:"maxTime,omitzero"`
	// MinHealthy is the share of the weight that is always in use. The default
	// is 0.5.
	MinHealthy float64 `json:"minHealthy,omitzero"`
	// Trials is how many calls must succeed before an instance is back. The
	// default is 3.
	Trials uint32 `json:"trials,omitzero"`
}

func (e Ejection) complete() (Ejection, error) {
	e.ConsecutiveFailures = cmp.Or(e.ConsecutiveFailures, 5)
	e.Interval = cmp.Or(e.Interval, Duration(5*time.Second))
	e.MinCalls = cmp.Or(e.MinCalls, 20)
	e.Tolerance = cmp.Or(e.Tolerance, 0.1)
	e.BaseTime = cmp.Or(e.BaseTime, Duration(2*time.Second))
	e.MaxTime = cmp.Or(e.MaxTime, max(e.BaseTime, Duration(20*time.Second)))
	e.MinHealthy = cmp.Or(e.MinHealthy, 0.5)
	e.Trials = cmp.Or(e.Trials, 3)
	var r rules
	r.want(e.Interval >= Duration(time.Second), `"interval" must be at least 1s`)
	r.want(e.Tolerance > 0 && e.Tolerance <= 1, `"tolerance" must be more than 0 and at most 1`)
	r.want(e.BaseTime > 0, `"baseTime" must be more than 0`)
	r.want(e.MaxTime >= e.BaseTime, `"maxTime" must be at least "baseTime"`)
	r.want(e.MinHealthy > 0 && e.MinHealthy <= 1, `"minHealthy" must be more than 0 and at most 1`)
	return e, r.err()
}

func (e Ejection) on() bool { return e.Trials > 0 }

// lasts is how long the nth ejection in a row lasts.
func (e Ejection) lasts(n int) time.Duration {
	doublings := min(n-1, 62)
	if e.BaseTime > e.MaxTime>>doublings {
		return time.Duration(e.MaxTime)
	}
	return time.Duration(e.BaseTime << doublings)
}

// orDefault is what holds for instances that are suspect for another reason while
// ejection is off.
func (e Ejection) orDefault() Ejection {
	complete, _ := e.complete()
	return complete
}

// record is how many calls an instance has had and how many of them failed.
type record struct{ calls, failed float64 }

func (r record) plus(o record) record {
	return record{r.calls + o.calls, r.failed + o.failed}
}

func (r record) minus(o record) record {
	return record{r.calls - o.calls, r.failed - o.failed}
}

func (r record) share() float64 { return r.failed / max(1, r.calls) }

// surplus is how many more calls failed than if each did with probability p.
func (r record) surplus(p float64) float64 { return r.failed - p*r.calls }

// deviation is the standard deviation of the surplus if each call fails with
// probability p.
func (r record) deviation(p float64) float64 { return math.Sqrt(p * (1 - p) * r.calls) }

// outlies says whether one fails more than the others, beyond the tolerance and
// beyond what chance explains: three standard deviations of what it has failed more
// than all together, if all instances are alike, and half a call, since calls fail
// whole.
func (e Ejection) outlies(one, others record) bool {
	if one.calls < float64(e.MinCalls) || others.calls < float64(e.MinCalls) || one.share() <= others.share()+e.Tolerance {
		return false
	}
	all := one.plus(others)
	p, part := all.share(), one.calls/all.calls
	chance := 3 * math.Hypot((1-part)*one.deviation(p), part*others.deviation(p))
	return one.surplus(p)-0.5 > chance
}

// compare ejects those whose calls have failed more often than the others' since
// the last time. The worst come first, and no longer count among the others then.
func (e *engine) compare(now time.Duration) {
	var all record
	var candidates []*child
	for _, c := range e.order {
		h := &c.health
		ended := c.counts()
		h.window = ended.since(h.counted)
		h.counted = ended
		if h.suspect {
			continue
		}
		h.times = max(0, h.times-1)
		all = all.plus(h.window)
		if c.state == connectivity.Ready && h.window.failed > 0 {
			candidates = append(candidates, c)
		}
	}
	slices.SortStableFunc(candidates, func(a, b *child) int { return cmp.Compare(b.health.window.share(), a.health.window.share()) })
	for _, c := range candidates {
		window := c.health.window
		if others := all.minus(window); e.config.ejection.outlies(window, others) {
			all = others
			e.eject(c, now, window.share(), fmt.Sprintf("%.0f of its last %.0f calls failed", window.failed, window.calls))
		}
	}
}
