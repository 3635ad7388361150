package attempt

import (
	"fmt"

	"google.golang.org/grpc"

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
func (c *Call) limitAll(cc *grpc.ClientConn) {
	if c.policy.Max <= 1 {
		return
	}
	c.cc = cc
	if c.policy.Stacked != nil && len(c.record.Attempts()) > 0 {
		c.policy.Stacked(c.method, above)
	}
	c.record.Limit(c.policy.Max)
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
