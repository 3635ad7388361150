package attempt

import (
	"fmt"

	"github.com/rollcall-go/rollcall/pick"
)

// Names of other layers that try again.
const (
	above       = "an interceptor above it"
	below       = "an interceptor below it"
	retryPolicy = "the retryPolicy of gRPC's service config, maxAttempts %d"
)

// limitAll has all layers make together as many attempts as this one allows. It
// notices a layer above by the attempts that the record already has.
func (p *Policy) limitAll(method string, record *pick.Record) {
	if p.Max <= 1 {
		return
	}
	if p.Stacked != nil && len(record.Attempts()) > 0 {
		p.Stacked(method, above)
	}
	record.Limit(p.Max)
}

// notice looks for a layer below, which makes more than one attempt within one
// of ours. gRPC also picks again by itself, but not after an answer.
func (c *Call) notice(e Event) {
	if c.policy.Stacked == nil || c.policy.Max <= 1 || len(e.Picks) < 2 {
		return
	}
	answered := 0
	for _, p := range e.Picks {
		if p.Class == pick.Answered {
			answered++
		}
	}
	if c.cc != nil {
		if theirs := c.cc.GetMethodConfig(c.method).RetryPolicy; theirs != nil {
			c.policy.Stacked(c.method, fmt.Sprintf(retryPolicy, theirs.MaxAttempts))
			return
		}
	}
	if answered > 1 {
		c.policy.Stacked(c.method, below)
	}
}

// spent says whether there may be no other attempt, whoever made those before.
func (c *Call) spent() bool {
	_, spent := c.record.Spent()
	return spent || c.made >= c.policy.Max
}
