package balancer

import (
	"math/rand/v2"
	"sync/atomic"
)

// position is how far a balancer's rotations have come, as a fraction of the
// whole turn in units of 2⁻⁶⁴. A fraction stays meaningful when the turn changes:
// who has been served continues to wait, who has waited is next.
//
// Calls take one step after another, in order. Where they come so close together
// that they collide, waiting for each other costs more than all the rest of a
// pick; then each processor takes a block of steps for its calls.
type position struct {
	_     [64]byte // cache lines of its own
	phase atomic.Uint64
	_     [64 - 8]byte
	crowd
}

const (
	// blockSteps is of how many steps a block is. It is prime, so that processors whose
	// blocks are whole turns do not all begin them at the same instance.
	blockSteps = 31
	// blockLeft is the bits of a phase in which a block keeps how many steps it has
	// left. What they are worth is less than anybody's share.
	blockLeft = 1<<6 - 1
	// blockTaken is what is left while the next block is taken.
	blockTaken = blockLeft
)

// start moves to a random place, so that clients that start together do not all
// call the same instance first.
func (p *position) start() {
	p.phase.Store(rand.Uint64())
	p.crowd.start()
}

// nextAlone makes a step, and returns where that leads, for a call that does not
// collide with another one.
func (p *position) nextAlone(step uint64) (phase uint64, ok bool) {
	if p.crowded.Load() {
		return 0, false
	}
	now := p.phase.Load()
	return now + step, p.phase.CompareAndSwap(now, now+step)
}

// nextInCrowd makes the step for a call that does collide.
func (p *position) nextInCrowd(step uint64) (phase uint64) {
	p.note(true)
	seat := p.seat()
	if seat.taken() {
		if phase, ok := p.blockAt(seat).next(step); ok {
			return phase
		}
	}
	b := p.own()
	phase, ok := b.next(step)
	if !ok {
		phase = p.refill(b, step)
	}
	if !ok || seat.taken() { // and perhaps at a block that is another processor's
		seat.take(b)
	}
	return phase
}

// next makes one of the steps that the block has left, unless somebody else is at it.
func (b *block) next(step uint64) (phase uint64, ok bool) {
	now := b.phase.Load()
	if left := now & blockLeft; left == 0 || left == blockTaken {
		return 0, false
	}
	phase = now + step&^blockLeft - 1
	return phase, b.phase.CompareAndSwap(now, phase)
}

// refill makes the first step of the next block, or a step without it for who finds
// somebody else at the block.
func (p *position) refill(b *block, step uint64) (phase uint64) {
	now := b.phase.Load()
	if now&blockLeft != 0 || !b.phase.CompareAndSwap(now, blockTaken) {
		return p.phase.Add(step)
	}
	from := p.phase.Add(blockSteps*step) - blockSteps*step
	phase = from&^blockLeft + step&^blockLeft + blockSteps - 1
	b.phase.Store(phase)
	return phase
}
