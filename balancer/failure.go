package balancer

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	gbalancer "google.golang.org/grpc/balancer"
)

// maxNamed is how many instances an error names, and maxWhy how many bytes of the
// reason of each it shows: an error is for people.
const (
	maxNamed = 5
	maxWhy   = 200
)

func shorten(why string) string {
	if len(why) <= maxWhy {
		return why
	}
	return strings.ToValidUTF8(why[:maxWhy], "") + "…"
}

// failure says why no call can be made. It must not be, or wrap, a status: that
// would end wait-for-ready calls.
func (e *engine) failure() error {
	var text []string
	switch {
	case len(e.order) > 0:
		text = append(text, fmt.Sprintf("none of the %d known instances can be connected: %s", len(e.order), e.described()))
	case e.reason != "":
		text = append(text, "no instance to call: "+e.reason)
	case e.resolverErr == "":
		text = append(text, "no instance to call: the resolver names none")
	}
	if e.resolverErr != "" && e.resolverErr != e.reason {
		text = append(text, "resolver: "+e.resolverErr)
	}
	return errors.New("rollcall: " + strings.Join(text, "; "))
}

// waiting is the error of a pick that is to be made again. gRPC takes it without
// the reason, which the call's record keeps: whom the call waits for, as it is
// when somebody asks.
type waiting struct{ engine *engine }

func (w waiting) Error() string {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	return fmt.Sprintf("rollcall: waiting for any of the %d known instances: %s", len(w.engine.order), w.engine.described())
}

func (w waiting) Unwrap() error { return gbalancer.ErrNoSubConnAvailable }

// described says of the first instances what each of them does.
func (e *engine) described() string {
	var b strings.Builder
	for i, c := range e.order[:min(maxNamed, len(e.order))] {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.describe())
	}
	if more := len(e.order) - maxNamed; more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// describe says who c is and why it cannot be connected, or that it may be yet.
func (c *child) describe() string {
	at := ""
	if addrs := addrList(c.addrs); addrs != c.id {
		at = " (" + addrs + ")"
	}
	return fmt.Sprintf("%s%s: %s", c.id, at, cmp.Or(c.why, strings.ToLower(c.state.String())))
}
