package balancer

import (
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
)

// gather is how long changes that no call waits for are put off, so that many of
// them cost one snapshot and one picker. What calls may wait for, the first
// connection and a lost one, is never put off.
const gather = 5 * time.Millisecond

// childChanged takes note of a child's new state. A loss of READY is published
// before it returns: gRPC lets a call that was sent to the lost connection wait
// for the next picker.
func (e *engine) childChanged(c *child, state connectivity.State, sc gbalancer.SubConn, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.gone || e.shut {
		return
	}
	lost := c.state == connectivity.Ready
	if lost {
		e.lose(c)
	}
	e.count[c.state]--
	e.count[state]++
	c.state, c.why = state, why
	if lost && e.now()-c.gained < shortLived && !c.draining && !c.closing.Load() {
		c.tally.fail()
		e.ejectFailing(c)
	}
	switch state {
	case connectivity.Ready:
		e.gain(c, sc)
	case connectivity.Idle: // connect again; pick_first is locked by our caller
		e.goroutines.Go(c.exitIdle)
	}
	e.unpublished = true
	if lost || e.aggregated() != e.published || state == connectivity.Ready && c.rank() < e.worst {
		e.publish()
	}
	e.publishSoon()
}

// rank of a child whose connection is ready.
func (c *child) rank() uint32 {
	switch {
	case c.health.suspect && !c.health.inUse:
		return rankSuspect
	case c.draining || c.closing.Load():
		return rankReserve
	case c.distant:
		return rankDistant
	default:
		return rankWanted
	}
}

func (e *engine) gain(c *child, sc gbalancer.SubConn) {
	if c.conn == nil || c.conn.subConn != sc {
		c.conn, c.edition = newConn(c, sc), 0
	}
	e.meet(c)
	e.note(c)
	c.conn.onPick.Or(takeTime) // which was not looked at while it was lost
	c.conn.rank.Store(c.rank())
	if c.edition == e.edition {
		e.lost--
	} else {
		e.stale = true
	}
}

// meet notes that there is a new connection to c, and what that says of it.
func (e *engine) meet(c *child) {
	now := e.now()
	if c.connected == 0 {
		c.connected = now
	}
	c.gained = now
	switch h := &c.health; {
	case c.closing.Load():
		// Either it closes still, or another process has taken its place.
		c.closing.Store(false)
		e.closed.remove(c.id, c.life)
		h.until = 0
		e.suspect(c, closed, 1, "it said that it closes, and is connected anew")
	case h.suspect && h.why == stalled:
		e.reinstate(c, "it is connected anew")
	}
	c.health.pulse = pulse{heard: now}
}

// shortLived is a connection that was lost sooner than this: a failure.
const shortLived = 5 * time.Second

func (e *engine) lose(c *child) {
	c.conn.rank.Store(rankLost)
	set(&c.conn.onAnswer, endRow, true)
	e.withdraw(c)
	if c.edition == e.edition {
		e.lost++
	}
}

// closing notes that c's server has said that it closes.
func (e *engine) closing(c *child) {
	if c.closing.Swap(true) {
		return // every answer says so
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed.add(c.id, c.life)
	if c = e.find(c.id, c.life); c == nil {
		return
	}
	c.closing.Store(true) // it may have left and come back
	e.rerank(c)
}

// settle publishes what a resolver state has changed and returns how many children
// there are.
func (e *engine) settle() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.publishAll()
	e.publishSoon()
	return len(e.order)
}

// publishSoon sees to it that what is left to publish will be.
func (e *engine) publishSoon() {
	if e.timer != nil || e.shut || !e.unpublished && !e.outdated() {
		return
	}
	e.goroutines.Add(1)
	e.timer = time.AfterFunc(gather, func() {
		defer e.goroutines.Done()
		e.mu.Lock()
		defer e.mu.Unlock()
		e.timer = nil
		e.stale = e.outdated()
		e.publishAll()
	})
}

// publishAll publishes whatever is left to publish. Lost connections alone are no
// reason for a new snapshot: the one there is leaves them out.
func (e *engine) publishAll() {
	if e.shut {
		return
	}
	if e.stale && e.aggregated() == connectivity.Ready {
		e.rebuild()
	}
	if e.unpublished {
		e.publish()
	}
}

// aggregated is the state of the whole: that of the child which is best off, or
// a failure if there are none.
func (e *engine) aggregated() connectivity.State {
	for _, s := range []connectivity.State{connectivity.Ready, connectivity.Connecting, connectivity.Idle} {
		if e.count[s] > 0 {
			return s
		}
	}
	return connectivity.TransientFailure
}

// publish gives gRPC the state and a picker for it; whoever waits picks again. A
// snapshot of instances that are wanted will do for now, whatever else has changed:
// a pick that finds nobody in it asks for a new one.
func (e *engine) publish() {
	state := e.aggregated()
	var p gbalancer.Picker
	switch state {
	case connectivity.Ready:
		if e.stale && (e.worst != rankWanted || e.published != connectivity.Ready) {
			e.rebuild()
		}
		p = &e.picker
	case connectivity.TransientFailure:
		p = &nobody{engine: e, err: e.failure()}
	default:
		p = &nobody{engine: e, err: waiting{e}}
	}
	e.published, e.unpublished = state, false
	e.cc.UpdateState(gbalancer.State{ConnectivityState: state, Picker: p})
}

// refresh returns the snapshot, made anew if it is outdated, before the time for
// that has come.
func (e *engine) refresh() *snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.shut && e.outdated() && e.aggregated() == connectivity.Ready {
		e.rebuild()
	}
	return e.picker.snapshot.Load()
}

// outdated says whether the snapshot differs from what a new one would be.
func (e *engine) outdated() bool { return e.stale || e.lost > 0 }
