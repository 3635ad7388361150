package balancer

import (
	"time"

	"google.golang.org/grpc/connectivity"
)

// tickEvery is how often the engine looks at the instances while calls are made,
// and tickPerInstance how much rarer for each of them: looking at one takes some
// ten ns, so that it never takes more than a thousandth of a core.
const (
	tickEvery       = 10 * time.Millisecond
	tickPerInstance = 10 * time.Microsecond
)

// idleTime is after how long without calls it stops looking. The next call makes
// it look again.
const idleTime = time.Second

// slowStartStep is how often the shares of instances are raised that start slowly,
// and stepPerInstance how much rarer for each instance: a snapshot with shares that
// differ takes up to 2 µs for each, so that it takes a hundredth of a core.
const (
	slowStartStep   = 100 * time.Millisecond
	stepPerInstance = 200 * time.Microsecond
)

// now is the engine's clock.
func (e *engine) now() time.Duration { return time.Since(e.began) }

// wake starts the ticks if they are asleep.
func (e *engine) wake() {
	if !e.picker.asleep.Load() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wakeLocked()
}

func (e *engine) wakeLocked() {
	now := e.now()
	e.active = now
	if e.shut || e.ticker != nil {
		return
	}
	slept := now - time.Duration(e.picker.clock.Swap(int64(now)))
	e.picker.asleep.Store(false)
	e.scheduleTick(now)
	e.due -= slept // so that the tick, and not a pick, finds out
}

func (e *engine) scheduleTick(now time.Duration) {
	e.due = now + e.tickPeriod()
	e.position.expect(e.tickPeriod())
	e.goroutines.Add(1)
	e.ticker = time.AfterFunc(e.tickPeriod(), e.tick)
}

func (e *engine) tickPeriod() time.Duration {
	return tickEvery + time.Duration(len(e.order))*tickPerInstance
}

// tick looks at all instances, and sleeps when nothing happens to them any more.
func (e *engine) tick() {
	defer e.goroutines.Done()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shut {
		return
	}
	now := e.now()
	e.position.tick(now - time.Duration(e.picker.clock.Swap(int64(now))))
	if late := now - e.due; late > tickEvery {
		e.overslept(now, late)
	}
	for _, c := range e.order {
		if c.state == connectivity.Ready && e.examine(c, now) {
			e.active = now
		}
	}
	if cfg := e.config.ejection; cfg.on() && now-e.compared >= time.Duration(cfg.Interval) {
		e.compared = now
		e.compare(now)
	}
	if e.slowing && now-e.rebuilt >= slowStartStep+time.Duration(len(e.order))*stepPerInstance {
		e.stale, e.active = true, now
	}
	if now-e.metrics.reported >= reportEvery {
		e.recordPicks(now)
	}
	e.publishSoon()
	e.ticker = nil // not before: who is taken out wakes the engine, which is awake
	if now-e.active < idleTime || !e.fallAsleep() {
		e.scheduleTick(now)
	}
}

// fallAsleep leaves it to the next pick to wake the engine, unless one was made in
// this moment that has not seen that it must.
func (e *engine) fallAsleep() bool {
	e.picker.asleep.Store(true)
	for _, c := range e.order {
		if c.state == connectivity.Ready && c.conn.onPick.Load()&takeTime == 0 {
			e.picker.asleep.Store(false)
			return false
		}
	}
	return true
}

// overslept takes note that the engine did not look at anybody for a while, or that
// this process did not run, so that nobody's answers were read.
func (e *engine) overslept(now, late time.Duration) {
	for _, c := range e.order {
		c.health.pulse.heard = min(now, c.health.pulse.heard+late)
	}
}
