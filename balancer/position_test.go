package balancer

import (
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/pick"
)

// tableOf returns n connections.
func tableOf(n int) []*conn {
	table := make([]*conn, n)
	for i := range table {
		table[i] = &conn{target: pick.Target{ID: fmt.Sprint(i)}}
	}
	return table
}

// Whoever calls at the same time, and whether they collide or not, everybody is
// picked as often as everybody else but for the steps that blocks have left.
func TestStepsOfManyCallersAreShared(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 10, 100, 1000} {
		for _, callers := range []int{1, 2, 8} {
			var at position
			at.start()
			start, r := at.phase.Load(), newRotation(tableOf(n), &at)
			const each = 10_000
			picked, wg := make([]map[string]int, callers), sync.WaitGroup{}
			for i := range callers {
				wg.Go(func() { picked[i] = count(draw(r, each)) })
			}
			wg.Wait()
			sum := map[string]int{}
			for _, by := range picked {
				for id, times := range by {
					sum[id] += times
				}
			}
			left := 0
			for i := range at.blocks {
				left += int(at.blocks[i].phase.Load() & blockLeft)
			}
			if at.phase.Load() != start+uint64(callers*each+left)*r.step {
				t.Errorf("%d callers, %d instances: steps were lost or made twice", callers, n)
			}
			most := (callers*each+left+n-1)/n + 1                                     // a turn is a few of 2⁶⁴ steps short
			fair, owed := float64(callers*each)/float64(n), float64(len(at.blocks)+2) // one by each block
			for i := range n {
				got := sum[fmt.Sprint(i)]
				if got > most || got < most-2-left || math.Abs(float64(got)-fair) > owed {
					t.Errorf("%d callers, %d instances, %d steps left: one was picked %d times; %.1f are fair, and %d is the most", callers, n, left, got, fair, most)
				}
			}
		}
	}
}

// A block is steps that follow each other, also round the end of the turn and where
// the turn has less.
func TestStepsOfABlock(t *testing.T) {
	for _, n := range []int{1, 3, 5, 16, 1000} {
		var at, other position
		at.start()
		at.blocks = at.blocks[:1]
		other.phase.Store(at.phase.Load())
		r, want := newRotation(tableOf(n), &at), newRotation(tableOf(n), &other)
		for pick := range 20 * blockSteps {
			at.crowded.Store(true)
			got, _ := r.next(false)
			if want, _ := want.next(false); got.target != want.target {
				t.Fatalf("pick %d of %d instances: %s, want %s", pick, n, got.target.ID, want.target.ID)
			}
		}
	}
}

// Each processor has a block, as many as there are now; they are handed out again and again,
// also after the count of it has wrapped.
func TestBlocksOfProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for processors, want := range map[int]int{1: runtime.NumCPU(), runtime.NumCPU() + 2: runtime.NumCPU() + 2} {
		runtime.GOMAXPROCS(processors)
		var at position
		if at.start(); len(at.blocks) != want {
			t.Errorf("%d blocks for %d processors of %d, want %d", len(at.blocks), processors, runtime.NumCPU(), want)
		}
	}
	var at position
	at.start()
	at.blocks = make([]block, 3)
	for _, given := range []uint32{0, 3, 1<<32 - 1} {
		for _, processors := range []int{2, 1, 3, 8} {
			runtime.GOMAXPROCS(processors)
			at.given.Store(given)
			blocks := map[any]bool{}
			for range 6 {
				blocks[at.nearest.New()] = true
			}
			if len(blocks) != min(processors, 3) {
				t.Errorf("%d processors have %d blocks of 3", processors, len(blocks))
			}
		}
	}
}

// Of a block that all share no step is lost, and none is made twice.
func TestStepsOfOneBlock(t *testing.T) {
	const callers, each = 4, 500_000
	for range 4 {
		var at position
		at.start()
		at.blocks = at.blocks[:1]
		start, r := at.phase.Load(), newRotation(tableOf(7), &at)
		var running sync.WaitGroup
		for range callers {
			running.Go(func() {
				for range each {
					at.nextInCrowd(r.step)
				}
			})
		}
		running.Wait()
		if left := at.blocks[0].phase.Load() & blockLeft; at.phase.Load() != start+(callers*each+left)*r.step {
			t.Fatal("steps were lost or made twice")
		}
		if !at.crowded.Load() {
			t.Fatal("no crowd")
		}
	}
}

// Processors that take a block at the same time do not all begin at the same instance.
func TestBlocksBeginElsewhere(t *testing.T) {
	for _, n := range []int{2, 3, 4, 5, 7, 8, 10, 16, 32, 33, 64} {
		var at position
		at.start()
		at.blocks = make([]block, 64)
		r, begin := newRotation(tableOf(n), &at), map[*conn]int{}
		for i := range at.blocks {
			place, _ := bits.Mul64(at.refill(&at.blocks[i], r.step), uint64(n))
			begin[r.table[place]]++
		}
		for c, times := range begin {
			if times > 64/n+2 {
				t.Errorf("of 64 blocks of %d instances %d begin at %s", n, times, c.target.ID)
			}
		}
	}
}

// A goroutine that picks again and again takes what is left of its block without asking
// for the processor's, until nothing is left. It may have to ask when the scheduler or the
// garbage collector has moved it, or its stack, so that it may try a few times.
func TestSeats(t *testing.T) {
	var wrong string
	for range 5 {
		if wrong = asksTooOften(); wrong == "" {
			return
		}
	}
	t.Error(wrong)
}

func asksTooOften() (wrong string) {
	var at position
	at.start()
	at.crowded.Store(true)
	r := newRotation(tableOf(5), &at)
	pick := func() { r.next(false) } // always from the same depth of the stack
	for range blockSteps + 1 {       // the stack may have had to grow at first
		pick()
	}
	asked, block := 0, at.nearest.New
	at.nearest.New = func() any { asked++; return block() }
	asks := func(picks int) int {
		at.nearest.Get() // the pool has none now, so that it asks for another one
		before := asked
		for range picks {
			pick()
		}
		return asked - before
	}
	if n := asks(blockSteps - 1); n != 0 {
		return fmt.Sprintf("asked %d times while steps were left", n)
	}
	if n := asks(1); n != 1 {
		return fmt.Sprintf("asked %d times when none was left", n)
	}
	for i := range at.seats { // a goroutine whose stack lies elsewhere has sat down
		at.seats[i].Add(uint64(len(at.seats)) << seatStack)
	}
	if n := asks(1); n != 1 {
		return fmt.Sprintf("asked %d times at another goroutine's seat", n)
	}
	const blocks = 100
	if n := asks(blocks * blockSteps); n > blocks*3/4 { // with the race detector a pool loses some
		return fmt.Sprintf("%d of %d blocks were not the one that the processor had last", n, blocks)
	}
	return ""
}

// Who sits at a block of another processor sits at its own one when nothing is left of
// that, also while something is left of its own.
func TestSeatsMove(t *testing.T) {
	var at position
	at.start()
	at.blocks = append(at.blocks, block{index: uint32(len(at.blocks))})
	at.nearest.New = func() any { return &at.blocks[0] }
	r := newRotation(tableOf(5), &at)
	pick := func() { r.next(false) }
	for range 5 { // as it may be moved itself
		at.crowded.Store(true)
		for range blockSteps + 2 {
			pick()
		}
		for i := range at.seats {
			if at.seats[i].Load() != 0 { // the last block has nothing left
				at.seats[i].Store(at.seats[i].Load()>>seatStack<<seatStack | uint64(len(at.blocks)-1))
			}
		}
		pick()
		for i := range at.seats {
			if known := at.seats[i].Load(); known != 0 && known%(1<<seatStack) != uint64(len(at.blocks)-1) {
				return
			}
		}
	}
	t.Error("still sits at a block of another processor")
}

// A goroutine that is on another processor now, or whose stack lies where another one's
// was, may sit at a block that is not its processor's, or at one that has nothing left.
func TestWrongSeats(t *testing.T) {
	const picks = 1000
	for _, left := range []uint64{0, 5, blockTaken} {
		var at position
		at.start()
		for i := range at.blocks {
			at.blocks[i].phase.Store(left)
		}
		r := newRotation(tableOf(10), &at)
		picked := map[*conn]int{}
		for range picks {
			at.crowded.Store(true)
			for i := range at.seats {
				at.seats[i].Store(at.seats[i].Load() >> seatStack << seatStack) // the first block's
			}
			c, _ := r.next(false)
			picked[c]++
		}
		for c, got := range picked {
			if off := got - picks/10; max(off, -off) > len(at.blocks)+1 { // one by each block
				t.Errorf("%d left: %s was picked %d times of %d", left, c.target.ID, got, picks)
			}
		}
		for i := range at.blocks {
			if now := at.blocks[i].phase.Load(); left == blockTaken && now != left {
				t.Errorf("from a block that is being taken steps were made: %d", now)
			}
		}
	}
}

// Callers that collided make one step after another again after the next tick.
func TestCrowdsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), "a", "b", "c", "d", "e")
		b.position.crowded.Store(true)
		b.load(1000, time.Second, healthy)
		if b.position.crowded.Load() {
			t.Fatal("still crowded")
		}
		picked := map[string]int{}
		for _, call := range b.load(1000, 500*time.Millisecond, healthy) {
			picked[call.id]++
		}
		for id, got := range picked {
			if got != 100 {
				t.Errorf("%s was picked %d times of 500", id, got)
			}
		}
	})
}
