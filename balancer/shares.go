package balancer

import (
	"math"
	"time"

	"google.golang.org/grpc/connectivity"
)

// share is an instance's share of the calls by its weight alone.
func (e *engine) share(c *child) uint32 { return e.config.picker.share(c.weight) }

// rebuild makes the snapshot of the connections that are ready, of which there
// must be one. The schedule has those of the best rank only.
func (e *engine) rebuild() {
	n := e.count[connectivity.Ready]
	ready := make([]*child, 0, n)
	for _, c := range e.order {
		if c.state == connectivity.Ready {
			c.factor, c.distant = 1, false
			ready = append(ready, c)
		}
	}
	e.useLeastBad(ready)
	e.stayLocal(ready)
	e.startSlowly(ready)

	s := &snapshot{ready: make([]*conn, n), worst: rankSuspect}
	for i, c := range ready {
		rank := c.rank()
		c.conn.rank.Store(rank)
		s.ready[i], s.worst = c.conn, min(s.worst, rank)
	}
	listed, factored := make([]*child, 0, n), false
	e.edition++
	for _, c := range ready {
		if c.rank() <= s.worst {
			c.edition = e.edition
			listed = append(listed, c)
			factored = factored || c.factor != 1
		}
	}
	conns, shares := e.listed(listed, factored)
	s.schedule = e.config.picker.schedule(conns, shares, &e.position)
	e.lost, e.stale, e.worst, e.rebuilt = 0, false, s.worst, e.now()
	e.picker.snapshot.Store(s)
}

// listed returns the connections and shares for a schedule. Where a share is not
// what the weight says, all are expressed in fractions of the largest.
func (e *engine) listed(children []*child, factored bool) ([]*conn, []uint32) {
	conns, shares := make([]*conn, len(children)), make([]uint32, len(children))
	for i, c := range children {
		conns[i], shares[i] = c.conn, e.share(c)
	}
	if !factored {
		return conns, shares
	}
	const full = 1 << 24
	largest := 0.0
	for i, c := range children {
		largest = max(largest, c.factor*float64(shares[i]))
	}
	for i, c := range children {
		shares[i] = max(1, uint32(math.Round(c.factor*float64(shares[i])/largest*full)))
	}
	return conns, shares
}

// stayLocal gives the client's zone the calls that it can bear and the others the
// rest.
func (e *engine) stayLocal(ready []*child) {
	zone := e.config.zone
	if !zone.on() {
		return
	}
	var all, local, remote float64
	zones := map[string]bool{}
	for _, c := range e.order {
		if !c.draining && !c.closing.Load() {
			all += float64(e.share(c))
			zones[c.zone] = true
		}
	}
	for _, c := range ready {
		switch {
		case c.rank() != rankWanted:
		case c.zone == zone.Local:
			local += float64(e.share(c))
		default:
			remote += float64(e.share(c))
		}
	}
	stays := zone.stays(local, all, len(zones))
	for _, c := range ready {
		switch {
		case local == 0 || remote == 0:
		case c.zone == zone.Local:
			c.factor = stays / local * all
		case stays == 1:
			c.distant = true
		default:
			c.factor = (1 - stays) / remote * all
		}
	}
	if stays == 1 {
		for _, c := range ready {
			c.factor = 1
		}
	}
}

// startSlowly lowers the shares of new processes, unless all are new.
func (e *engine) startSlowly(ready []*child) {
	e.slowing = false
	now, settled := e.now(), false
	for _, c := range ready {
		if c.isNew = c.isNew && e.config.slowStart.on() && now-c.connected < time.Duration(e.config.slowStart.Window); c.isNew {
			e.slowing = true
		} else if c.rank() == rankWanted {
			settled = true
		}
	}
	if !e.slowing || !settled {
		return
	}
	for _, c := range ready {
		if c.isNew {
			c.factor *= e.config.slowStart.factor(now - c.connected)
		}
	}
}
