package balancer

import (
	"errors"
	"fmt"
	"strings"
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
		text = append(text, e.unconnected())
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

func (e *engine) unconnected() string {
	var b strings.Builder
	fmt.Fprintf(&b, "none of the %d known instances can be connected: ", len(e.order))
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

// describe says who c is and why it cannot be connected.
func (c *child) describe() string {
	at := ""
	if addrs := addrList(c.addrs); addrs != c.id {
		at = " (" + addrs + ")"
	}
	return fmt.Sprintf("%s%s: %s", c.id, at, c.why)
}
