package balancer

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
)

// position is how far a balancer's rotations have come, as a fraction of the
// whole turn in units of 2⁻⁶⁴. A fraction stays meaningful when the turn changes:
// who has been served continues to wait, who has waited is next.
//
// Calls take one step after another, in order. Where they come so close together
// that they collide, waiting for each other costs more than all the rest of a
// pick; then, for a while, each processor takes a block of steps for its calls.
type position struct {
	_     [64]byte // cache lines of its own
	phase atomic.Uint64
	_     [64 - 8]byte

	crowded atomic.Bool   // calls collide
	blocks  []block       // one for each processor
	given   atomic.Uint32 // how often a processor was given a block as its first
	nearest sync.Pool     // of *block: the one that the processor had last
}

const (
	// blockSteps is of how many steps a block is.
	blockSteps = 8
	// crowdedBlocks is after how many blocks it is tried whether calls collide still.
	crowdedBlocks = 32
	// blockLeft is the bits of a phase in which a block keeps how many steps it has
	// left. What they are worth is less than anybody's share.
	blockLeft = 1<<4 - 1
	// blockTaken is what is left while the next block is taken.
	blockTaken = blockLeft
)

// block is steps that are taken from a position and not made yet.
type block struct {
	phase atomic.Uint64  // and what is left
	count atomic.Uint32  // blocks taken
	salt  uint64         // for dice: blocks begin at the same phases again and again
	_     [128 - 24]byte // so that no two share a cache line
}

// start moves to a random place, so that clients that start together do not all
// call the same instance first.
func (p *position) start() {
	p.phase.Store(rand.Uint64())
	p.blocks = make([]block, runtime.GOMAXPROCS(0))
	for i := range p.blocks {
		p.blocks[i].salt = rand.Uint64()
	}
	p.nearest.New = func() any { return &p.blocks[p.given.Add(1)%uint32(len(p.blocks))] }
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

// nextInCrowd makes the step for a call that does. dice is another one whenever it
// leads to the same phase.
func (p *position) nextInCrowd(step uint64) (phase, dice uint64) {
	if !p.crowded.Load() {
		p.crowded.Store(true)
	}
	b := p.nearest.Get().(*block)
	phase = p.nextOf(b, step)
	dice = phase + b.salt + uint64(b.count.Load())*0x9e3779b97f4a7c15
	p.nearest.Put(b)
	return phase, dice
}

// nextOf makes a step of a block, or of the next one when that has none left.
// Who finds somebody else at the block makes a step without it.
func (p *position) nextOf(b *block, step uint64) (phase uint64) {
	now := b.phase.Load()
	switch left := now & blockLeft; {
	case left == 0 && b.phase.CompareAndSwap(now, blockTaken):
		if b.count.Add(1)%crowdedBlocks == 0 {
			p.crowded.Store(false)
		}
		from := p.phase.Add(blockSteps*step) - blockSteps*step
		phase = from&^blockLeft + step&^blockLeft + blockSteps - 1
		b.phase.Store(phase)
		return phase
	case 0 < left && left != blockTaken:
		if phase = now + step&^blockLeft - 1; b.phase.CompareAndSwap(now, phase) {
			return phase
		}
	}
	return p.phase.Add(step)
}
