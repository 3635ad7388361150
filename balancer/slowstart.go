package balancer

import (
	"cmp"
	"math"
	"slices"
	"time"

	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/endpoint"
)

// SlowStart lets the share of a new process grow over a time, for one that has to
// fill caches or compile code before it can serve its full share. It is off unless
// it is configured.
//
// New is a process (a Life) that this client has not been connected to before and
// that its registry has known for less than Window, or under whose ID this client
// has been connected to another process: a registry does not always notice that a
// process was replaced. The registry's times are compared with each other only,
// never with this machine's clock. Where all connected instances are new, after a
// restart of everything, none is slowed.
//
// Fields that are zero stand for their defaults; Window has none.
type SlowStart struct {
	// Window is how long it takes to the full share, from the first connection.
	Window Duration `json:"window,omitzero"`
	// MinShare is the part of its full share that a process starts with. The
	// default is 0.1.
	MinShare float64 `json:"minShare,omitzero"`
	// Curve is the power of the elapsed part of Window that the share follows: 1,
	// the default, is a straight line; with 2 it stays low for longer, with 0.5 it
	// rises sooner.
	Curve float64 `json:"curve,omitzero"`
}

func (s SlowStart) complete() (SlowStart, error) {
	s.MinShare = cmp.Or(s.MinShare, 0.1)
	s.Curve = cmp.Or(s.Curve, 1)
	var r rules
	r.want(s.Window > 0, `"window" must be given and more than 0`)
	r.want(s.MinShare > 0 && s.MinShare <= 1, `"minShare" must be more than 0 and at most 1`)
	r.want(s.Curve > 0 && s.Curve <= 100, `"curve" must be more than 0 and at most 100`)
	return s, r.err()
}

func (s SlowStart) on() bool { return s.Window > 0 }

// factor is what the share of an instance is multiplied by that has been connected
// for so long, which is less than Window.
func (s SlowStart) factor(connected time.Duration) float64 {
	return max(s.MinShare, math.Pow(float64(connected)/float64(s.Window), s.Curve))
}

// registryTime is the latest time that the registry tells of any instance, its now,
// if it is wanted.
func registryTime(cfg *config, endpoints []gresolver.Endpoint) (now time.Time) {
	if !cfg.slowStart.on() {
		return now
	}
	for _, ep := range endpoints {
		if inst, ok := endpoint.From(ep); ok {
			for _, t := range []time.Time{inst.FirstRegistered, inst.LastRenewed} {
				if t.After(now) {
					now = t
				}
			}
		}
	}
	return now
}

// isNew says whether a process is new, where now is the registry's time.
func (e *engine) isNew(m member, now time.Time) bool {
	window := time.Duration(e.config.slowStart.Window)
	switch {
	case !e.config.slowStart.on() || e.met.contains(m.id, m.life):
		return false
	case !m.registered.IsZero() && now.Sub(m.registered) < window:
		return true
	default:
		return e.met.containsID(m.id) || slices.ContainsFunc(e.children[m.id], func(c *child) bool { return c.connected > 0 && c.life != m.life })
	}
}
