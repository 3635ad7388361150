package balancer

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"
)

// health is whether an instance is fit for calls. The engine's mu guards it.
type health struct {
	suspect  bool // it gets no calls but trials
	why      suspicion
	inUse    bool // though suspect, because too few others are left
	badness  float64
	times    int           // how often in a row it was ejected
	until    time.Duration // no trial before that
	trial    *trial        // offered or under way; nil for none
	passed   int           // trials in a row
	failures int           // failed trials of a stalled one

	window  record // since the comparison with the others before, or the end of an ejection
	counted counts // until then
	pulse   pulse
}

// suspicion is why an instance is suspect, as metrics and logs name it.
type suspicion string

const (
	failing suspicion = "failing"
	stalled suspicion = "stalled" // any answer ends that
	closed  suspicion = "closed"  // it said that it closes, and is connected all the same
)

// Trials of a stalled instance are so far apart, twice as far after each that is
// not answered, up to the most.
const (
	stalledTrial    = time.Second
	maxStalledTrial = 4 * time.Second
)

// maxOffer is how long a trial waits for a unary call to be made with it. An
// instance that has none comes back without.
const maxOffer = 2 * time.Second

// maxTrial is after how long another call is tried in the place of one that has not
// ended, which may take minutes.
const maxTrial = 10 * time.Second

// trial is the offer to a call to try a suspect, and that call.
type trial struct {
	conn    *conn
	offered time.Duration
	begun   atomic.Int64 // when a call took the offer; 0 before
}

// failed is told of each failure of a call.
func (e *engine) failed(c *conn) {
	limit := e.limit.Load()
	late := c.rank.Load() == rankLost
	if limit == 0 || !late && c.tally.consecutive.Load() < limit {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if late { // the instance may have another connection now
		c.child.noteRow()
	}
	e.ejectFailing(c.child)
}

// ejectFailing ejects an instance that has failed too often in a row.
func (e *engine) ejectFailing(c *child) {
	n := c.tally.consecutive.Load()
	if limit := e.limit.Load(); e.shut || c.gone || c.health.suspect || limit == 0 || n < limit {
		return
	}
	e.eject(c, e.now(), 1, fmt.Sprintf("%d failures in a row", n))
}

// eject takes an instance out until its time is over and trials succeed. badness is
// the share of its calls that failed.
func (e *engine) eject(c *child, now time.Duration, badness float64, why string) {
	h := &c.health
	h.times++
	h.until = now + min(e.config.ejection.orDefault().lasts(h.times), math.MaxInt64-now)
	e.suspect(c, failing, badness, why)
}

// stall takes an instance out until it answers.
func (e *engine) stall(c *child, now time.Duration) {
	c.health.failures = 0
	c.health.until = now + stalledTrial
	e.suspect(c, stalled, 1, fmt.Sprintf("%d calls wait, none was answered for %v", c.tally.waiting(), now-c.health.pulse.heard))
}

func (e *engine) suspect(c *child, why suspicion, badness float64, details string) {
	h := &c.health
	e.withdraw(c)
	h.suspect, h.why, h.inUse, h.trial, h.passed, h.badness = true, why, false, nil, 0, badness
	e.rerank(c)
	e.countEjection(string(why))
	logger.Infof("%s is ejected, %s: %s", c.id, why, details)
	e.wakeLocked()
}

// reinstate gives an instance its share again.
func (e *engine) reinstate(c *child, why string) {
	h := &c.health
	e.withdraw(c)
	h.suspect, h.inUse, h.trial = false, false, nil
	h.pulse = pulse{heard: e.now()}
	c.tally.forgive()
	if h.why == failing {
		h.counted = c.counts()
	}
	e.note(c)
	e.rerank(c)
	logger.Infof("%s is back: %s", c.id, why)
}

// rerank lets picks and the next snapshot see c's rank.
func (e *engine) rerank(c *child) {
	if c.draining || c.closing.Load() {
		e.withdraw(c)
	}
	if c.state == connectivity.Ready {
		c.conn.rank.Store(c.rank())
	}
	e.stale = true
	e.publishSoon()
}

// examine looks at a ready instance at a tick, and says whether there is a reason
// to look again soon.
func (e *engine) examine(c *child, now time.Duration) (active bool) {
	h := &c.health
	c.collect()
	picked := c.conn.onPick.Load()&takeTime == 0
	asked := picked && c.conn.asked.Load()
	answered := c.conn.onAnswer.Load()&sayAlive == 0
	if !e.config.stall.Off {
		watching := h.pulse.watching
		h.pulse.look(now, asked, answered, c.tally.waiting(), time.Duration(c.tally.usual.Load()), e.config.stall)
		switch {
		case h.pulse.silent && !h.suspect:
			e.stall(c, now)
		case !h.pulse.silent && h.suspect && h.why == stalled:
			e.reinstate(c, "it answers")
		}
		if h.pulse.watching != watching {
			e.note(c)
		}
		if h.pulse.asked && now-h.pulse.heard > e.tickPeriod() {
			c.tally.atLeast(now - h.pulse.heard - e.tickPeriod())
		}
	}
	if picked {
		e.lastPick = now
		c.conn.onPick.Or(e.timing())
	}
	if answered {
		c.conn.onAnswer.Or(sayAlive)
	}
	switch {
	case !h.suspect || now < h.until || c.draining || c.closing.Load():
	case h.trial == nil:
		if offer := (&trial{conn: c.conn, offered: now}); e.picker.trial.CompareAndSwap(nil, offer) {
			h.trial = offer
		}
	case now-h.trial.offered > maxOffer && e.lastPick > h.trial.offered && e.withdraw(c):
		e.reinstate(c, "no call to try it with")
	case h.trial.begun.Load() != 0 && now-time.Duration(h.trial.begun.Load()) > maxTrial:
		h.trial = nil // what becomes of it says nothing any more
	}
	return picked || answered || h.pulse.watching && c.tally.waiting() > 0
}

// timing is of which calls the time is to be taken between one tick and the next.
func (e *engine) timing() uint32 {
	if _, latency := e.config.picker.(P2C); latency {
		return takeTime | timeSome
	}
	return takeTime
}

func set(notes *atomic.Uint32, bit uint32, wanted bool) {
	if wanted == (notes.Load()&bit != 0) {
		return
	}
	if wanted {
		notes.Or(bit)
	} else {
		notes.And(^bit)
	}
}

// note tells c's picks and Dones what they have to do.
func (e *engine) note(c *child) {
	if c.conn == nil {
		return
	}
	_, counts := e.config.picker.(loadAware)
	counts = counts || c.health.pulse.watching
	todo := c.conn.onPick.Load() // until it is changed
	if counts {
		todo |= countHand
	}
	if e.config.ejection.on() {
		todo |= countEnd
		e.enroll(c)
	}
	c.conn.prepare(todo)
	set(&c.conn.onPick, countHand, counts)
	set(&c.conn.onPick, countEnd, e.config.ejection.on())
	set(&c.conn.onPick, countPicks, e.metrics.listened)
	set(&c.conn.onPick, timeSome, e.timing()&timeSome != 0)
	c.noteRow()
}

// enroll sees to it that the answers to c's calls can be counted.
func (e *engine) enroll(c *child) {
	if c.answers == nil {
		if e.answers == nil || e.answers.used == answersOf {
			e.answers = newAnswers()
		}
		c.answers, c.column = e.answers, e.answers.used
		e.answers.used++
	}
	if c.conn.answers == nil {
		c.conn.answers, c.conn.column = c.answers, c.column
	}
}

// noteRow tells Dones when there is a row of failures to end.
func (c *child) noteRow() {
	if c.tally.consecutive.Load() != 0 { // calls of another connection have failed, or connecting has
		set(&c.conn.onAnswer, endRow, true)
	}
}

// noteAll does it for all that have a connection.
func (e *engine) noteAll() {
	for _, c := range e.order {
		e.note(c)
	}
}

// withdraw takes back the offer of a trial, and says whether it was still there.
func (e *engine) withdraw(c *child) bool {
	if c.health.trial == nil || !e.picker.trial.CompareAndSwap(c.health.trial, nil) {
		return false
	}
	c.health.trial = nil
	return true
}

// tried notes how a trial ended.
func (e *engine) tried(t *trial, o outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := t.conn.child
	h := &c.health
	if h.trial != t || c.gone || e.shut {
		return
	}
	h.trial = nil
	switch {
	case o == good:
		if h.passed++; h.passed >= int(e.config.ejection.orDefault().Trials) {
			e.reinstate(c, "it answers again")
		}
	case h.why == stalled && o != unsent:
		h.until = e.now() + min(stalledTrial<<min(h.failures, 8), maxStalledTrial)
		h.failures++
	case o == bad:
		e.eject(c, e.now(), 1, "it still fails")
	}
}

// useLeastBad sees to it that no more are out of use than may be, of those that are
// ready.
func (e *engine) useLeastBad(ready []*child) {
	var fit, unfit float64
	var suspects []*child
	for _, c := range ready {
		switch share := float64(e.share(c)); {
		case c.draining || c.closing.Load():
		case c.health.suspect:
			c.health.inUse = false
			suspects = append(suspects, c)
			unfit += share
		default:
			fit += share
		}
	}
	if len(suspects) == 0 {
		return
	}
	least := e.config.ejection.orDefault().MinHealthy * (fit + unfit)
	slices.SortStableFunc(suspects, func(a, b *child) int {
		return cmp.Or(cmp.Compare(a.health.badness, b.health.badness), cmp.Compare(a.health.times, b.health.times))
	})
	for _, c := range suspects {
		if fit >= least {
			return
		}
		c.health.inUse = true
		fit += float64(e.share(c))
	}
}
