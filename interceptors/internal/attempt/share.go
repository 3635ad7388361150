package attempt

import "time"

// What is learnt about a method from its recent latency. Too little is worse than
// too much: an attempt that is cut off has cost its work and brought nothing.
const (
	usual   = 0.9  // this share of attempts has taken at most the time that one is given at least
	fastest = 0.05 // in less time than this share has taken, no attempt is begun
)

// share is how long the attempt that begins may take of what is left of the
// caller's deadline: its part among the attempts that may yet follow, so that one
// that hangs does not take all of it, and at least what is usual. 0 is all of it:
// for the first attempt, for the last, and where none may follow one that was cut
// off.
func (c *Call) share() time.Duration {
	deadline, ok := c.ctx.Deadline()
	if !ok || c.made == 1 || c.made >= c.policy.Max || !c.Idempotent() {
		return 0
	}
	left := time.Until(deadline)
	_, floor, _ := c.shared.Latency.Quantile(usual)
	if share := max(left/time.Duration(c.policy.Max-c.made+1), floor); 0 < share && share < left {
		return share
	}
	return 0
}

// limit is how long the attempt that begins may take; 0 for as long as the call.
func (c *Call) limit() time.Duration {
	share, timeout := c.share(), c.policy.Timeout
	if share <= 0 || 0 < timeout && timeout < share {
		return timeout
	}
	return share
}

// hopeless says whether an attempt that begins after wait cannot end before the
// caller's deadline.
func (c *Call) hopeless(wait time.Duration) bool {
	deadline, ok := c.ctx.Deadline()
	if !ok {
		return false
	}
	left := time.Until(deadline) - wait
	least, _, _ := c.shared.Latency.Quantile(fastest)
	return left <= 0 || left < least
}
