package attempt

import (
	"time"

	"google.golang.org/grpc"
)

// Hedging is after how long an attempt gets another one beside it.
type Hedging struct {
	Delay    time.Duration // if Quantile is 0
	Quantile float64       // of what the method's attempts have taken recently

	// All has each attempt get another one, as long as the call may make any, and
	// not out of the budget; else only the first does.
	All bool
}

// Beside prepares an attempt with results of its own, which is made with these
// call options; keep hands its results to the caller.
type Beside func(opts []grpc.CallOption) (try Try, own []grpc.CallOption, keep func(error))

// leastDelay is how soon an attempt can have another one beside it: by then it
// has been picked for.
const leastDelay = time.Millisecond

// DoHedged is Do for calls whose attempts may have others beside them. It is on
// its own because those others need the Call on the heap.
func (c *Call) DoHedged(try Try, beside Beside) error {
	c.beside = beside
	for {
		err := c.attempt(try)
		if err == nil {
			return nil
		}
		if !c.another(err) {
			return c.err
		}
	}
}

func (c *Call) attempt(try Try) error {
	if delay, ok := c.hedgeAfter(); ok {
		return c.race(try, max(delay, leastDelay))
	}
	return try(c.begin(false))
}

// hedgeAfter is after how long the attempt that comes next is hedged, if it is.
func (c *Call) hedgeAfter() (delay time.Duration, ok bool) {
	h := c.policy.Hedging
	if h == nil || c.beside == nil || c.made+2 > c.policy.Max || !c.Idempotent() {
		return 0, false
	}
	if _, pinned := c.record.Pinned(); pinned {
		return 0, false
	}
	if h.Quantile > 0 {
		_, delay, ok = c.shared.Latency.Quantile(h.Quantile)
		return delay, ok
	}
	return h.Delay, true
}
