package attempt

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/pick"
)

// run is one attempt.
type run struct {
	n      int // which of the call's, from 1
	hedge  bool
	began  time.Duration // on the clock
	took   time.Duration // 0 until it has ended, if that was before others
	record *pick.Record
	mark   pick.Mark
	scope  scope
}

// duration is how long it took, or has taken so far.
func (r *run) duration() time.Duration {
	if r.took > 0 {
		return r.took
	}
	return Now() - r.began
}

// begin starts the next attempt, which others can outrun or not, and returns what
// it is to be made with.
func (c *Call) begin(outrun bool) (context.Context, []grpc.CallOption) {
	c.made++
	c.run = run{n: c.made, began: Now(), record: c.record, mark: c.record.Mark()}
	c.run.scope = c.enter(outrun)
	if c.made == 1 {
		return c.run.scope.ctx, c.opts
	}
	forget(c.opts)
	if c.next.ready {
		return c.run.scope.ctx, append(c.opts[:len(c.opts):len(c.opts)], grpc.WaitForReady(true))
	}
	return c.run.scope.ctx, c.opts
}

// forget empties what the caller's options were filled with by an earlier
// attempt, so that they hold the last one's or nothing.
func forget(opts []grpc.CallOption) {
	for _, opt := range opts {
		switch o := opt.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = metadata.MD(nil)
		case grpc.TrailerCallOption:
			*o.TrailerAddr = metadata.MD(nil)
		case grpc.PeerCallOption:
			*o.PeerAddr = peer.Peer{}
		}
	}
}

// event is r as it ends with err.
func (c *Call) event(r *run, err error) Event {
	e := Event{Method: c.method, Attempt: r.n, Hedge: r.hedge, Err: err, Duration: r.duration()}
	e.Picks, e.Class = r.record.Since(r.mark)
	if e.Class.NotExecuted() && !vouched(e.Picks, r.record.NotPickedError(), err) {
		e.Class = pick.Untracked
	}
	if n := len(e.Picks); n > 0 {
		e.Target = e.Picks[n-1].Target
	}
	if err != nil {
		e.Err = c.explain(r, err)
	}
	return e
}

// explain is the error of an attempt, or why this call ended it where it did
// that itself.
func (c *Call) explain(r *run, err error) error {
	err = awaited(err, r.record.NotPickedError())
	cause := context.Cause(r.scope.ctx)
	switch {
	case c.ctx.Err() != nil: // the caller's doing
		return err
	case cause == pick.ErrTimeout && status.Code(err) == codes.Canceled:
		return errTimeout
	case cause == errNoPick && c.pinned != "":
		return status.Errorf(codes.Unavailable, "pinned instance %s is still connecting after %v", c.pinned, c.next.bound)
	case cause == errNoPick:
		return status.Errorf(codes.Unavailable, "no instance was ready within %v: %s",
			c.next.bound.Round(time.Millisecond), status.Convert(err).Message())
	}
	return err
}

// timedOut says whether the attempt, which has ended with this code, ran out of a
// time of its own. Its server may have noticed that first.
func (r *run) timedOut(code codes.Code) bool {
	return code == codes.DeadlineExceeded && (r.scope.expired() || r.scope.overdue())
}
