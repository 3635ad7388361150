package attempt

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/pick"
)

// errOutrun ends an attempt when another one has the answer.
var errOutrun = errors.New("another attempt was faster")

// race makes an attempt, and others beside it while it takes longer than delay.
func (c *Call) race(try Try, delay time.Duration) error {
	ctx, opts := c.begin(true)
	first := &racer{run: c.run, made: true, keep: func(error) {}}
	r := &race{call: c, delay: delay, racers: []*racer{first}}
	r.ctx, r.stop = context.WithCancelCause(c.ctx)
	defer r.stop(nil)
	r.schedule(first)
	first.err = try(ctx, opts)
	r.ended(first)
	r.close()
	r.going.Wait()
	return r.finish()
}

// race is attempts of a call beside each other.
type race struct {
	call  *Call
	delay time.Duration
	ctx   context.Context // of all but the first
	stop  context.CancelCauseFunc
	going sync.WaitGroup // the goroutines of all but the first

	mu     sync.Mutex // guards all below; nothing is called under it
	racers []*racer   // in the order in which they began
	next   *time.Timer
	over   bool   // nobody begins any more
	winner *racer // the first that was settled
}

// racer is an attempt of a race. All of it is for the attempt's own goroutine until
// the race is over.
type racer struct {
	run  run
	made bool // false if nobody could be picked for it
	err  error
	keep func(error)
}

// schedule has another attempt begin beside the last one, if that takes longer than
// the delay.
func (r *race) schedule(last *racer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.racers); r.over || n > 1 && !r.call.policy.Hedging.All || r.call.made+n > r.call.policy.Max {
		return
	}
	r.going.Add(1)
	record, mark := last.run.record, last.run.mark
	r.next = time.AfterFunc(r.delay, func() {
		defer r.going.Done()
		// An attempt for which nobody has been picked is not hedged: either nobody is
		// ready, or it is not known who should be avoided.
		if picks, _ := record.Since(mark); len(picks) > 0 && r.ctx.Err() == nil && !r.call.hopeless(0) {
			r.join()
		}
	})
}

// close ends the joining.
func (r *race) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.next != nil && r.next.Stop() {
		r.going.Done()
	}
}

// join makes another attempt.
func (r *race) join() {
	c := r.call
	ctx, record := c.record.Fork(r.ctx)
	a := &racer{run: run{hedge: true, began: Now(), record: record, mark: record.Mark(), scope: scope{ctx: ctx}}}
	if !r.take() {
		return
	}
	if !r.enter(a) {
		r.give()
		return
	}
	r.schedule(a)
	a.run.scope.limitUnary(c.policy.Timeout)
	var try Try
	var opts []grpc.CallOption
	try, opts, a.keep = c.beside(c.opts)
	a.err = try(a.run.scope.ctx, opts)
	if _, class := record.Since(a.run.mark); class == pick.NeverPicked { // nobody else is ready
		a.run.scope.leave()
		r.give()
		return
	}
	a.made = true
	r.ended(a)
}

// enter lets a into the race, unless that is over or decided.
func (r *race) enter(a *racer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.winner != nil {
		return false
	}
	r.racers = append(r.racers, a)
	return true
}

func (r *race) take() bool { return r.call.policy.Hedging.All || r.call.shared.Budget.Take() }

func (r *race) give() {
	if !r.call.policy.Hedging.All {
		r.call.shared.Budget.Give()
	}
}

// ended notes that a has ended. The first that is settled ends the others.
func (r *race) ended(a *racer) {
	a.run.took = Now() - a.run.began
	if !r.settled(a) {
		return
	}
	r.mu.Lock()
	won := r.winner == nil
	if won {
		r.winner = a
	}
	r.mu.Unlock()
	if won {
		r.stop(errOutrun)
		r.call.run.scope.cancel(errOutrun)
	}
}

// settled says whether the end of a is the answer to the call, be it an error.
func (r *race) settled(a *racer) bool {
	if a.err == nil {
		return true
	}
	code := status.Code(r.call.explain(&a.run, a.err))
	return code != codes.Unavailable && !r.call.policy.Codes.has(code) && !a.run.timedOut(code)
}

// finish makes one of the attempts, all of which have ended, the call's last one,
// which decides what becomes of the call, and returns its error.
func (r *race) finish() error {
	c := r.call
	made := slices.DeleteFunc(r.racers, func(a *racer) bool { return !a.made })
	for i, a := range made {
		a.run.n = c.made + i
	}
	last := r.decisive(made)
	for _, a := range made {
		if a != last {
			r.lose(a)
		}
	}
	c.made += len(made) - 1
	c.run = last.run
	last.keep(last.err)
	return last.err
}

// decisive is the attempt that was settled first; or else one after which its
// server wants no other one; or else the last.
func (r *race) decisive(made []*racer) *racer {
	if r.winner != nil {
		return r.winner
	}
	for _, a := range made {
		if advice(r.call.event(&a.run, a.err)).Never {
			return a
		}
	}
	return made[len(made)-1]
}

// lose notes the end of an attempt that does not decide.
func (r *race) lose(a *racer) {
	e := r.call.event(&a.run, a.err)
	if r.settled(a) {
		e.Reason = Outrun
		r.call.shared.Latency.Note(1, e.Duration, Now()) // it takes at least as long
	} else {
		e.Again, e.Reason = true, Idempotent
	}
	a.run.scope.leave()
	r.call.note(e)
}
