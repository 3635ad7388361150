// Package attempt is the one loop in which every fail mode makes the attempts
// of a call. After each it asks the record what is certain about it (package
// pick), decides (Decide), keeps to the bounds of attempts, time and budget, and
// sees to it that the next one goes where the mode wants it.
package attempt

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/pick"
)

// Policy is what the attempts of a call keep to. Calls share it; nobody changes
// it.
type Policy struct {
	Max        int                      // attempts in all, at least 1
	Same       bool                     // stay on the instance that was picked first
	Backoff    backoff.Policy           // between attempts
	Timeout    time.Duration            // of one attempt; 0 for none of its own
	Idempotent func(method string) bool // asked after a failure only
	Codes      Codes                    // besides Unavailable, of answers of an idempotent method
	Methods    *Methods                 // shared by the calls of one connection
	Hedging    *Hedging                 // nil for none
	Observe    func(Event)              // told of every attempt; nil for nobody

	// Stacked is told of another layer that tries again; nil for nobody.
	Stacked func(method, layer string)
}

// Event is one attempt that has ended.
type Event struct {
	Method   string
	Attempt  int
	Hedge    bool
	Target   pick.Target
	Class    pick.Class
	Picks    []pick.Attempt
	Err      error
	Duration time.Duration
	Again    bool
	Reason   string
}

// Try makes one attempt, with the context and the call options it is given.
type Try func(context.Context, []grpc.CallOption) error

// Call is the attempts of one call. Its methods are for one goroutine at a time.
type Call struct {
	policy *Policy
	method string
	ctx    context.Context // the caller's, with the record
	opts   []grpc.CallOption
	record *pick.Record
	stream bool
	shared Method
	cc     *grpc.ClientConn // nil if it does not matter
	beside Beside           // nil if no attempt can be hedged

	events []Event // of the attempts that failed
	err    error   // what the caller is told
	pinned string  // by this call
	next   next

	made int // attempts so far, with the one under way
	run  run // the attempt under way
}

// next is what was decided about the attempt that comes next.
type next struct {
	ready bool          // wait until somebody can be picked
	bound time.Duration // for how long a pick may wait; 0 for as long as gRPC lets it
}

// Start begins the call, which is zero before, with these options. For a stream,
// the policy's Timeout is the time until Settle.
func (c *Call) Start(ctx context.Context, method string, policy *Policy, cc *grpc.ClientConn, opts []grpc.CallOption, stream bool) {
	c.policy, c.method, c.opts, c.stream, c.cc = policy, method, opts, stream, cc
	c.ctx, c.record, c.shared = policy.start(ctx, method, stream)
}

// start begins a call, and returns its context with its record.
func (p *Policy) start(ctx context.Context, method string, stream bool) (context.Context, *pick.Record, Method) {
	shared := p.Methods.Of(method)
	shared.Budget.Call()
	ctx, record := pick.NewCall(ctx, method)
	if !stream {
		record.SetUnary()
	}
	p.limitAll(method, record)
	return ctx, record, shared
}

// Pin has all attempts made at this instance. It comes before the first of them.
func (c *Call) Pin(id string) {
	c.pinned = id
	c.record.Pin(id)
	c.next.bound = c.longest()
}

// Do makes attempts until one succeeds or another one is not allowed. Its error
// is the one to tell the caller; Events has all of them.
func (c *Call) Do(try Try) error {
	for {
		err := try(c.begin(false))
		if err == nil {
			return nil
		}
		if !c.another(err) {
			return c.err
		}
	}
}

// Resume is Do for a call whose last attempt has failed with err, or looked like a
// success and has failed after all.
func (c *Call) Resume(err error, try Try) error {
	if !c.another(err) {
		return c.err
	}
	return c.Do(try)
}

// Settle says that the attempt under way counts as a success from here on: its
// own time limit ends. It returns an error if that had already passed.
func (c *Call) Settle() error {
	if c.run.scope.settle() {
		return nil
	}
	return errTimeout
}

// Succeed ends the call well.
func (c *Call) Succeed() {
	if !c.stream {
		c.policy.learn(c.method, c.shared, c.run.began, c.run.took)
	}
	if c.policy.Observe != nil {
		e := c.event(&c.run, nil)
		e.Reason = Succeeded
		c.policy.Observe(e)
	}
	c.end()
}

// learn takes note of how long an attempt took that ended well, or of some of many.
// took is 0 if it has ended just now.
func (p *Policy) learn(method string, shared Method, began, took time.Duration) {
	if p.Max <= 1 {
		return
	}
	latency := shared.Latency
	if latency == nil {
		latency = p.Methods.Learn(method)
	}
	if answers := latency.Sample(began); answers > 0 {
		if took == 0 {
			took = Now() - began
		}
		latency.Note(answers, took, began+took)
	}
}

// Fail ends the call with the last attempt's error, because of why, without
// another attempt.
func (c *Call) Fail(err error, why string) error {
	e := c.event(&c.run, err)
	e.Reason = why
	if again, reason := c.verdict(e); !again {
		e.Reason = reason
	}
	c.note(e)
	c.err = e.Err
	c.end()
	return c.err
}

// Ended returns the error with which the balancer saw the attempt under way
// end; nil if it did not.
func (c *Call) Ended() error {
	picks, _ := c.record.Since(c.run.mark)
	if n := len(picks); n > 0 && picks[n-1].Ended {
		return picks[n-1].Err
	}
	return nil
}

// Events returns the attempts that failed.
func (c *Call) Events() []Event { return c.events }

// Idempotent says whether the call may execute more than once.
func (c *Call) Idempotent() bool { return c.policy.Idempotent(c.method) }

// another decides whether an attempt follows the one that has just failed with
// err, and waits until it may begin.
func (c *Call) another(err error) bool {
	e := c.event(&c.run, err)
	c.notice(e)
	wait := c.decide(&e)
	c.note(e)
	c.best(e)
	if !e.Again {
		c.giveUp(e)
		c.end()
		return false
	}
	c.run.scope.leave()
	c.plan(e)
	if err := backoff.Wait(c.ctx, wait); err != nil {
		c.err = status.FromContextError(err).Err()
		c.end()
		return false
	}
	return true
}

// longestWait is how long the pick of an instance that is connecting may take
// where the backoff does not say: as long as the longest backoff by default.
const longestWait = time.Second

// plan says how the attempt after e is to be made.
func (c *Call) plan(e Event) {
	c.next = next{}
	if c.policy.Same && c.pinned == "" && e.Target.ID != "" {
		if _, ok := c.record.Pinned(); !ok {
			c.pinned = e.Target.ID
			c.record.Pin(c.pinned)
		}
	}
	switch {
	case c.pinned != "":
		c.next.bound = c.longest()
	case e.Class == pick.NeverPicked:
		c.next.bound = c.policy.Backoff.Delay(e.Attempt - 1)
		c.next.ready = c.next.bound > 0
	}
}

// longest is how long the pick of a pinned instance may take.
func (c *Call) longest() time.Duration {
	if longest := max(c.policy.Backoff.Max, c.policy.Backoff.Base); longest > 0 {
		return longest
	}
	return longestWait
}

// best keeps the error that tells the caller most: an attempt for which the
// pinned instance could not be had says nothing about the call.
func (c *Call) best(e Event) {
	if c.err == nil || c.pinned == "" || e.Class != pick.NeverPicked || c.ctx.Err() != nil {
		c.err = e.Err
	}
}

func (c *Call) note(e Event) {
	c.events = append(c.events, e)
	if c.policy.Observe != nil {
		c.policy.Observe(e)
	}
}

// end lets go of what the call holds.
func (c *Call) end() {
	c.run.scope.leave()
	if c.pinned != "" {
		c.record.Pin("")
	}
}
