package main

import (
	"context"
	"math"
	"sync"
	"time"
)

// tick is how finely calls are scheduled: those of the same millisecond start
// together, because waking up more often costs more than the calls.
const tick = time.Millisecond

// load starts calls on a schedule, whatever happens to those before them (an
// open loop): servers that answer late get no fewer calls.
type load struct {
	rate        float64       // calls per second
	duration    time.Duration // 0: until stopped
	maxInFlight int
	call        func(scheduled time.Time)
	drop        func() // for a call that would have been one too many in flight
}

// run returns when every call has ended: those of duration, or those that were
// started until ctx ended.
func (l load) run(ctx context.Context) {
	scheduled := make(chan time.Time)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(scheduled)
	running := 0
	start := func(at time.Time) {
		select {
		case scheduled <- at: // an idle worker takes it
		default:
			if running == l.maxInFlight {
				l.drop()
				return
			}
			running++
			workers.Go(func() {
				l.call(at)
				for at := range scheduled {
					l.call(at)
				}
			})
		}
	}
	l.schedule(ctx, start)
}

// schedule calls start for every call when it is due.
func (l load) schedule(ctx context.Context, start func(at time.Time)) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	begin := time.Now()
	planned := int(math.Ceil(l.rate * l.duration.Seconds())) // 0: without end
	for n := 0; ctx.Err() == nil && (planned == 0 || n < planned); n++ {
		for l.due(n) > time.Since(begin) {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
		start(begin.Add(l.due(n)))
	}
}

// due is when call n starts: at its share of a second, on the next tick.
func (l load) due(n int) time.Duration {
	exact := time.Duration(float64(n) / l.rate * float64(time.Second))
	return (exact + tick - 1).Truncate(tick)
}
