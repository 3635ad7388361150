package balancer

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// position is how far a balancer's rotations have come, as a fraction of the
// whole turn in units of 2⁻⁶⁴. A fraction stays meaningful when the turn changes:
// who has been served continues to wait, who has waited is next.
//
// Calls take one step after another, in order. Where they come so close together
// that they collide, waiting for each other costs more than all the rest of a
// pick; then, until the engine's next tick, each processor takes a block of steps for
// its calls.
type position struct {
	_     [64]byte // cache lines of its own
	phase atomic.Uint64
	_     [64 - 8]byte

	crowded atomic.Bool   // calls collide
	blocks  []block       // one for each processor
	given   atomic.Uint32 // how often a processor was given a block as its first
	nearest sync.Pool     // of *block: the one that the processor had last
	seats   [128]seat
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

// block is steps that are taken from a position and not made yet.
type block struct {
	phase atomic.Uint64  // and what is left
	count atomic.Uint32  // blocks taken
	index uint32         // in blocks
	salt  uint64         // for dice: blocks begin at the same phases again and again
	_     [128 - 24]byte // so that no two share a cache line
}

// seat remembers of a goroutine, by the place of its stack, which block it has taken last.
// One that makes call after call finds it here in a fraction of the time that asking for
// the processor's takes.
type seat struct{ atomic.Uint64 }

// seatStack is from which bit of a seat on it tells the stack; those below tell the block.
const seatStack = 16

// start moves to a random place, so that clients that start together do not all
// call the same instance first.
func (p *position) start() {
	p.phase.Store(rand.Uint64())
	p.blocks = make([]block, min(runtime.GOMAXPROCS(0), 1<<seatStack))
	for i := range p.blocks {
		p.blocks[i].index = uint32(i)
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

// disperse lets calls take one step after another again, until they collide.
func (p *position) disperse() {
	if p.crowded.Load() {
		p.crowded.Store(false)
	}
}

// nextInCrowd makes the step for a call that does collide. dice is another one whenever
// it leads to the same phase.
func (p *position) nextInCrowd(step uint64) (phase, dice uint64) {
	if !p.crowded.Load() {
		p.crowded.Store(true)
	}
	var onStack byte
	stack := uint64(uintptr(unsafe.Pointer(&onStack)) >> 11) // no two have less
	seat := &p.seats[stack%uint64(len(p.seats))]
	known := seat.Load()
	sits := known>>seatStack == stack
	if sits {
		b := &p.blocks[known%(1<<seatStack)]
		if phase, ok := b.next(step); ok {
			return phase, b.dice(phase)
		}
	}
	b := p.nearest.Get().(*block)
	p.nearest.Put(b)
	phase, ok := b.next(step)
	if !ok {
		phase = p.refill(b, step)
	}
	if !ok || sits { // and perhaps at a block that is another processor's
		seat.Store(stack<<seatStack | uint64(b.index))
	}
	return phase, b.dice(phase)
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
	b.count.Add(1)
	from := p.phase.Add(blockSteps*step) - blockSteps*step
	phase = from&^blockLeft + step&^blockLeft + blockSteps - 1
	b.phase.Store(phase)
	return phase
}

// dice is another one for each step of all blocks.
func (b *block) dice(phase uint64) uint64 {
	return phase + b.salt + uint64(b.count.Load())*0x9e3779b97f4a7c15
}
