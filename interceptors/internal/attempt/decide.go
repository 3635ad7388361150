package attempt

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/pick"
)

// Why another attempt follows.
const (
	NotExecuted = "certainly not executed"
	Idempotent  = "the method is idempotent"
)

// Why none follows.
const (
	Succeeded       = "succeeded"
	NotRetryable    = "this error is never retried"
	MayHaveExecuted = "may have executed"
	UsedUp          = "no attempts left"
	CallerEnded     = "the caller's context has ended"
	NoTime          = "the deadline leaves no time"
	BudgetEmpty     = "the retry budget is empty"
	Discouraged     = "the server asks for no other attempt"
	PinGone         = "the pinned instance is gone"
	Dropped         = "the balancer refused the call"
	Begun           = "the stream had begun"
	Outrun          = "another attempt was faster"
)

// rule is the rule of all modes: whether an attempt that ended like this may be
// followed by another one, and why or why not. timedOut says that the attempt, and
// not the caller, set the time that ran out.
//
// The code alone says that trying again is worth it, the class alone that it
// cannot execute the call twice.
func (p *Policy) rule(code codes.Code, timedOut bool, class pick.Class, idempotent bool) (again bool, why string) {
	switch {
	case class == pick.Answered && p.Codes.has(code) && idempotent:
		return true, Idempotent
	case code != codes.Unavailable && !timedOut:
		return false, NotRetryable
	case class.NotExecuted():
		return true, NotExecuted
	case idempotent:
		return true, Idempotent
	default:
		return false, MayHaveExecuted
	}
}

// Codes is a set of codes.
type Codes uint32

// Add adds a code.
func (c *Codes) Add(code codes.Code) { *c |= 1 << code }

func (c Codes) has(code codes.Code) bool { return c>>code&1 != 0 }

// decide fills in whether another attempt follows e and why, and returns how
// long to wait before it.
func (c *Call) decide(e *Event) (wait time.Duration) {
	again, why := c.verdict(*e)
	switch {
	case !again:
		e.Reason = why
		return 0
	case c.refused(*e) && c.pinned != "":
		e.Reason = PinGone
		return 0
	case c.refused(*e):
		e.Reason = Dropped
		return 0
	case c.spent():
		e.Reason = UsedUp
		return 0
	case advice(*e).Never:
		e.Reason = Discouraged
		return 0
	}
	wait = c.delay(*e)
	switch {
	case c.hopeless(wait):
		e.Reason = NoTime
	case !c.shared.Budget.Take():
		e.Reason = BudgetEmpty
	default:
		e.Again, e.Reason = true, why
	}
	return wait
}

// verdict is the rule, as far as it does not depend on what else the call may
// still do.
func (c *Call) verdict(e Event) (again bool, why string) {
	if c.ctx.Err() != nil {
		return false, CallerEnded
	}
	code := status.Code(e.Err)
	return c.policy.rule(code, c.run.timedOut(code), e.Class, c.Idempotent())
}

// advice is what the server said that was asked last.
func advice(e Event) pick.Advice {
	if n := len(e.Picks); n > 0 {
		return e.Picks[n-1].Advice
	}
	return pick.Advice{}
}

// giveUp tells the server whose handler made the call, if any, that the attempts
// were made here and need not be made above it once more.
func (c *Call) giveUp(e Event) {
	switch {
	case e.Reason == BudgetEmpty, e.Reason == Discouraged, e.Reason == UsedUp && c.policy.Max > 1:
		drain.GiveUp(c.ctx)
	}
}

// refused says whether the balancer ended an attempt that would have waited for
// an instance: it does so when waiting is of no use.
func (c *Call) refused(e Event) bool {
	return c.next.bound > 0 && e.Class == pick.NeverPicked && !c.run.scope.expired()
}

// delay is how long to wait before the attempt after e. Another instance is
// tried at once, the first time; a pick that found nobody has its waiting in the
// next pick. What the server asks for comes before all that.
func (c *Call) delay(e Event) time.Duration {
	retry := e.Attempt - 1
	switch wait := advice(e).Wait; {
	case wait > 0:
		return wait
	case e.Class == pick.NeverPicked:
		return 0
	case c.policy.Same:
		return c.policy.Backoff.Delay(retry)
	case retry == 0:
		return 0
	default:
		return c.policy.Backoff.Delay(retry - 1)
	}
}
