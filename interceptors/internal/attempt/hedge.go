package attempt

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/pick"
)

// Hedging is after how long an attempt gets another one beside it.
type Hedging struct {
	Delay    time.Duration // if Quantile is 0
	Quantile float64       // of what the method's attempts have taken recently
}

// Beside prepares an attempt with results of its own, which is made with these
// call options; keep hands its results to the caller.
type Beside func(opts []grpc.CallOption) (try Try, own []grpc.CallOption, keep func(error))

// errOutrun ends an attempt when the other one has the answer.
var errOutrun = errors.New("another attempt was faster")

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
		return c.race(try, delay)
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
		_, delay, ok = c.policy.Latencies.Quantile(c.method, h.Quantile)
		return delay, ok
	}
	return h.Delay, true
}

// hedge is an attempt beside the one that c.run is.
type hedge struct {
	call *Call
	ctx  context.Context
	stop context.CancelCauseFunc
	done chan struct{} // closed when it has ended, or will not be made

	// Written before done is closed.
	made bool
	run  run
	err  error
	keep func(error)
}

// race makes an attempt, and another one beside it if it takes longer than delay.
func (c *Call) race(try Try, delay time.Duration) error {
	ctx, opts := c.begin(true)
	h := &hedge{call: c, done: make(chan struct{})}
	h.ctx, h.stop = context.WithCancelCause(c.ctx)
	defer h.stop(nil)
	timer := time.AfterFunc(max(delay, leastDelay), h.start)
	err := try(ctx, opts)
	if timer.Stop() {
		return err
	}
	if settled(&c.run, err) {
		h.stop(errOutrun)
	}
	<-h.done
	if !h.made {
		return err
	}
	return c.finish(h, err)
}

// start makes the attempt, in the timer's goroutine. An attempt for which nobody
// has been picked is not hedged: either nobody is ready, or it is not known who
// should be avoided.
func (h *hedge) start() {
	defer close(h.done)
	c := h.call
	if picks, _ := c.record.Since(c.run.mark); len(picks) == 0 || h.ctx.Err() != nil || c.hopeless(0) || !c.policy.Budget.Take() {
		return
	}
	ctx, record := c.record.Fork(h.ctx)
	h.run = run{n: c.run.n + 1, hedge: true, started: time.Now(), record: record, mark: record.Mark(), scope: scope{ctx: ctx}}
	h.run.scope.limitUnary(c.policy.Timeout)
	try, opts, keep := c.beside(c.opts)
	h.keep = keep
	h.err = try(h.run.scope.ctx, opts)
	if _, class := record.Since(h.run.mark); class == pick.NeverPicked { // nobody else is ready
		h.run.scope.leave()
		c.policy.Budget.Give()
		return
	}
	h.made = true
	if h.ctx.Err() == nil && settled(&h.run, h.err) {
		c.run.scope.cancel(errOutrun)
	}
}

// settled says whether err is the answer to the call, be it an error.
func settled(r *run, err error) bool {
	return err == nil || status.Code(err) != codes.Unavailable && !r.scope.expired()
}

// finish makes of the attempt under way, which has ended with err, and of h the
// one that decides what becomes of the call, and returns its error.
func (c *Call) finish(h *hedge, err error) error {
	c.made++
	other, otherErr := h.run, h.err // the one that does not count
	outrun := err != nil && context.Cause(c.run.scope.ctx) == errOutrun
	if outrun || !settled(&c.run, err) && !advice(c.event(&c.run, err)).Never {
		other, otherErr = c.run, err
		c.run, err = h.run, h.err
		h.keep(err)
	}
	e := c.event(&other, otherErr)
	if settled(&other, otherErr) {
		e.Reason = Outrun
		c.policy.Latencies.Note(c.method, e.Duration, time.Now()) // it takes at least as long
	} else {
		e.Again, e.Reason = true, Idempotent
	}
	other.scope.leave()
	c.note(e)
	return err
}
