package attempt

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/pick"
)

// Why a call ended one of its own attempts.
var (
	errTimeout = status.Error(codes.DeadlineExceeded, pick.ErrTimeout.Error())
	errNoPick  = errors.New("nobody was picked in time")
)

// scope is the context of one attempt. Most unary attempts have none of their
// own and use the call's: then nothing but ctx is set.
type scope struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	release context.CancelFunc
	limit   *time.Timer // ends a stream that is not settled in time
	pick    *time.Timer // ends an attempt for which nobody is picked in time
	late    bool        // settled when limit had passed
}

// enter makes the scope of the next attempt.
func (c *Call) enter(outrun bool) scope {
	s := scope{ctx: c.ctx}
	if outrun || c.stream || c.next.bound > 0 {
		s.ctx, s.cancel = context.WithCancelCause(s.ctx)
	}
	if c.next.bound > 0 {
		s.pick = cancelUnpicked(s.cancel, c.record, c.run.mark, c.next.bound)
	}
	if timeout := c.limit(); timeout > 0 && c.stream {
		s.limit = cancelAfter(timeout, s.cancel)
	} else {
		s.limitUnary(timeout)
	}
	return s
}

// limitUnary gives the attempt a timeout, if there is one.
func (s *scope) limitUnary(timeout time.Duration) {
	if timeout > 0 {
		s.ctx, s.release = context.WithTimeoutCause(s.ctx, timeout, pick.ErrTimeout)
	}
}

func cancelAfter(limit time.Duration, cancel context.CancelCauseFunc) *time.Timer {
	return time.AfterFunc(limit, func() { cancel(pick.ErrTimeout) })
}

// cancelUnpicked ends an attempt for which nobody has been picked in time. The
// record cannot wake a pick that waits; cancelling its context does.
func cancelUnpicked(cancel context.CancelCauseFunc, record *pick.Record, mark pick.Mark, bound time.Duration) *time.Timer {
	return time.AfterFunc(bound, func() {
		if picks, _ := record.Since(mark); len(picks) == 0 {
			cancel(errNoPick)
		}
	})
}

// settle ends the stream's limit, and says whether that was in time.
func (s *scope) settle() bool {
	if s.limit != nil && !s.limit.Stop() {
		s.late = true
	}
	s.limit = nil
	return !s.late
}

// expired says whether the attempt ended because of a time that the call set
// for it, and not the caller.
func (s *scope) expired() bool {
	cause := context.Cause(s.ctx)
	return s.late || cause == pick.ErrTimeout || cause == errNoPick
}

// overdue says whether the time limit of a unary attempt has passed.
func (s *scope) overdue() bool {
	deadline, ok := s.ctx.Deadline()
	return ok && s.release != nil && !time.Now().Before(deadline)
}

// leave ends what belongs to the attempt.
func (s *scope) leave() {
	if s.limit != nil {
		s.limit.Stop()
	}
	if s.pick != nil {
		s.pick.Stop()
	}
	if s.release != nil {
		s.release()
	}
	if s.cancel != nil {
		s.cancel(nil)
	}
}
