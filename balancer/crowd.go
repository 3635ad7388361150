package balancer

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// crowd is for picks that come so close together that they are in each other's way: then
// each processor takes a block of what they share. Rotations notice it when they collide,
// contests by how many they are, and the engine's ticks when it is over.
type crowd struct {
	crowded atomic.Bool
	blocks  []block       // one for each processor that there may be
	given   atomic.Uint32 // how often a processor was given a block as its first
	nearest sync.Pool     // of *block: the one that the processor had last
	seats   [128]atomic.Uint64

	contests uint64 // made so far; the engine's mu guards it

	_      [64]byte
	drawn  atomic.Uint32 // of picks by contests since the last tick, one in countedOf
	enough atomic.Uint32 // how many these are if there are manyPicks until the next tick
	_      [64 - 8]byte
}

// block is what a processor has taken for its next picks.
type block struct {
	phase atomic.Uint64  // of a position, and what is left of its steps
	run   atomic.Uint64  // the number of a contest (24 bits), how often more (8) to pick who won it (place, 32)
	dice  atomic.Uint64  // of the contest
	index uint32         // in blocks
	_     [128 - 28]byte // so that no two share a cache line
}

func (c *crowd) start() {
	c.blocks = make([]block, min(max(runtime.NumCPU(), runtime.GOMAXPROCS(0)), 1<<seatStack))
	for i := range c.blocks {
		c.blocks[i].index = uint32(i)
	}
	c.nearest.New = func() any {
		used := min(runtime.GOMAXPROCS(0), len(c.blocks)) // now: limits of processor time may change
		return &c.blocks[(c.given.Add(1)-1)%uint32(used)]
	}
}

// note sets whether picks are in each other's way.
func (c *crowd) note(crowded bool) {
	if c.crowded.Load() != crowded {
		c.crowded.Store(crowded)
	}
}

// manyPicks are so many in a second that those by contests are in each other's way. One in
// countedOf is counted.
const (
	manyPicks = 1_000_000
	countedOf = 64
)

// count counts one of countedOf picks by contests.
func (c *crowd) count() {
	if c.drawn.Add(1) == c.enough.Load() {
		c.note(true)
	}
}

// expect says when the next tick is.
func (c *crowd) expect(period time.Duration) {
	c.enough.Store(uint32(manyPicks / countedOf * period.Seconds()))
}

// tick lets calls be made without blocks again, until they collide, unless contests have made
// many since the last tick.
func (c *crowd) tick(since time.Duration) {
	drawn := c.drawn.Swap(0)
	c.note(drawn > 0 && float64(drawn)*countedOf >= manyPicks*since.Seconds())
	if c.crowded.Load() {
		return
	}
	for i := range c.blocks { // of the next crowd others win
		if run := &c.blocks[i].run; run.Load() != 0 {
			run.Store(0)
		}
	}
}

// seat is where a goroutine remembers, by its stack, which block it has taken last. One that
// makes call after call finds it there in a fraction of the time that asking for the
// processor's takes.
type seat struct {
	stack, known uint64
	at           *atomic.Uint64
}

// seatStack is from which bit on what is known at a seat tells the stack; the bits below
// tell the block.
const seatStack = 16

func (c *crowd) seat() seat {
	stack := ownStack()
	at := &c.seats[stack%uint64(len(c.seats))]
	return seat{stack, at.Load(), at}
}

// taken says whether this goroutine has taken it.
func (s seat) taken() bool { return s.known>>seatStack == s.stack }

// take remembers b, which may be that of another processor than before.
func (s seat) take(b *block) {
	if known := s.stack<<seatStack | uint64(b.index); known != s.known {
		s.at.Store(known)
	}
}

// blockAt is the one that is remembered there.
func (c *crowd) blockAt(s seat) *block { return &c.blocks[s.known%(1<<seatStack)] }

// own is the processor's block.
func (c *crowd) own() *block {
	b := c.nearest.Get().(*block)
	c.nearest.Put(b)
	return b
}

// ownStack tells goroutines apart by where their stacks are, as long as they stay there.
func ownStack() uint64 {
	var onStack byte
	return uint64(uintptr(unsafe.Pointer(&onStack)) >> 11) // no two have less
}

// golden is 2⁶⁴ divided by the golden ratio: the upper halves of its multiples are spread
// evenly.
const golden = 0x9e3779b97f4a7c15
