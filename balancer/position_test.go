package balancer

import (
	"fmt"
	"math"
	"sync"
	"testing"

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
			r := newRotation(tableOf(n), &at)
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
			got, _ := r.next()
			if want, _ := want.next(); got.target != want.target {
				t.Fatalf("pick %d of %d instances: %s, want %s", pick, n, got.target.ID, want.target.ID)
			}
		}
	}
}

// Blocks are handed out again and again, also after the count of it has wrapped.
func TestBlocksAreHandedOutForEver(t *testing.T) {
	var at position
	at.start()
	at.blocks = make([]block, 3)
	at.given.Store(1<<31 - 2)
	for range 3 {
		if at.nearest.New() == nil {
			t.Error("none")
		}
	}
}

// Callers that collide no longer make one step after another again.
func TestCrowdsEnd(t *testing.T) {
	var at position
	at.start()
	at.crowded.Store(true)
	r := newRotation(tableOf(5), &at)
	draw(r, len(at.blocks)*crowdedBlocks*blockSteps)
	if at.crowded.Load() {
		t.Fatal("still crowded")
	}
	for id, got := range count(draw(r, 500)) {
		if got != 100 {
			t.Errorf("%s was picked %d times of 500", id, got)
		}
	}
}

// Who is picked again is picked with other dice.
func TestDiceDiffer(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 8, 16} {
		for _, crowded := range []bool{false, true} {
			var at position
			at.start()
			r := newRotation(tableOf(n), &at)
			seen := map[uint64]bool{}
			for range 8000 {
				at.crowded.Store(crowded)
				_, dice := r.next()
				if seen[dice] {
					t.Fatalf("%d instances, crowded %v: the same dice again", n, crowded)
				}
				seen[dice] = true
			}
		}
	}
}
