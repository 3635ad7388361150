package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/pick"
)

// Where picks are in each other's way each processor picks who has won a few times.
func TestRuns(t *testing.T) {
	for _, p := range []Picker{P2C{}, LeastRequest{ChoiceCount: 2}} {
		var at position
		at.start()
		at.blocks = at.blocks[:1]
		at.contests = 1<<24 + 1 // and more than have different numbers
		s := scheduled(p, &at, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
		at.crowded.Store(true)
		const runs = 20_000
		won, again, seen := map[string]int{}, 0, map[uint64]bool{}
		last := ""
		for range runs {
			winner, dice := s.next(false)
			if won[winner.target.ID]++; winner.target.ID == last {
				again++
			}
			for range runLength - 1 {
				if seen[dice] {
					t.Fatal("the same dice again")
				}
				seen[dice] = true
				var c *conn
				if c, dice = s.next(false); c != winner {
					t.Fatalf("%s is picked in a run of %s", c.target.ID, winner.target.ID)
				}
			}
			last = winner.target.ID
		}
		for id, n := range won {
			if math.Abs(float64(n)-runs/10) > 5*math.Sqrt(runs/10) {
				t.Errorf("%v: %s won %d of %d", p.name(), id, n, runs)
			}
		}
		if math.Abs(float64(again)-runs/10) > 5*math.Sqrt(runs/10) {
			t.Errorf("%v: %d of %d runs follow one of the same", p.name(), again, runs)
		}
	}
}

// Who has won a contest is not picked in another one for it, whose places are others'.
func TestRunsEndWithTheirContest(t *testing.T) {
	var at position
	at.start()
	other := scheduled(LeastRequest{ChoiceCount: 2}, &at, 1, 1).(*contest)
	d := scheduled(LeastRequest{ChoiceCount: 2}, &at, 1, 1).(*contest)
	d.all[1].tally.calls.Store(1000)
	for _, tt := range []struct {
		number, place uint64
		want          string
	}{{d.number, 1, "b"}, {other.number, 1, "a"}, {d.number, 2, "a"}} {
		for range 100 {
			at.crowded.Store(true)
			for i := range at.blocks {
				at.blocks[i].run.Store(tt.number<<40 | 3<<32 | tt.place)
			}
			if c, _ := d.next(false); c.target.ID != tt.want {
				t.Fatalf("after place %d of contest %d has won, in contest %d %s is picked", tt.place, tt.number, d.number, c.target.ID)
			}
		}
	}
}

// Picks of many goroutines in a crowd are all made, at whatever blocks they meet.
func TestRunsOfManyCallers(t *testing.T) {
	const callers, each = 8, 20_000
	var at position
	at.start()
	s := scheduled(LeastRequest{ChoiceCount: 2}, &at, 1, 1, 1, 1)
	at.crowded.Store(true)
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for range each {
				c, _ := s.next(false)
				c.tally.enter(streamCall)
			}
		})
	}
	running.Wait()
	for _, c := range s.(*contest).all {
		if got := c.tally.inHand(); math.Abs(float64(got)-callers*each/4) > 4*callers*runLength {
			t.Errorf("%s has %d of %d", c.conn.target.ID, got, callers*each)
		}
	}
}

// Only many picks are made in runs, whatever the time between two ticks, and only until there
// are few again.
func TestManyPicksAreMadeInRuns(t *testing.T) {
	for _, unconnected := range []int{0, 3000} { // ticks are 10 or 40 ms apart
		inBubble(t, func(t *testing.T, b *bed) {
			names := slices.Clone(fourServers)
			for i := range unconnected {
				names = append(names, fmt.Sprint("u", i))
			}
			b.resolveWith(configWith(P2C{}, withoutStalls), servers(names...)...)
			b.ready(fourServers...)
			for _, tt := range []struct {
				perSecond int
				inRuns    bool
			}{{manyPicks / 2, false}, {manyPicks * 3 / 2, true}, {manyPicks / 2, false}} {
				const ms, noticed = 300, 100
				inRuns := 0
				for passed := range ms {
					b.picks(t.Context(), tt.perSecond/1000)
					if b.position.crowded.Load() && passed >= noticed {
						inRuns++
					}
					time.Sleep(time.Millisecond)
				}
				if want := map[bool]int{true: ms - noticed}[tt.inRuns]; inRuns != want {
					t.Errorf("%d picks a second, %d more instances: in runs for %d of %d ms", tt.perSecond, unconnected, inRuns, ms-noticed)
				}
			}
			for i := range b.position.blocks {
				if run := b.position.blocks[i].run.Load(); run != 0 {
					t.Errorf("run %x is left", run)
				}
			}
		})
	}
}

// Runs begin as soon as there are as many picks as make many until the next tick; calls with
// hints, which make none, do not count.
func TestBurstsAreMadeInRuns(t *testing.T) {
	for picks, want := range map[int]bool{manyPicks / 200: false, manyPicks / 50: true} {
		for _, hinted := range []bool{false, true} {
			inBubble(t, func(t *testing.T, b *bed) {
				b.up(configWith(P2C{}, withoutStalls), fourServers...)
				ctx, rec := t.Context(), (*pick.Record)(nil)
				if hinted {
					ctx, rec = b.recorded()
					rec.Avoid("a")
				}
				for range picks {
					b.startWith(ctx, unaryMethod).Done(answeredOK)
				}
				if want := want && !hinted; b.position.crowded.Load() != want {
					t.Errorf("%d picks at one moment, with hints %t, are in runs: %t, want %t", picks, hinted, !want, want)
				}
			})
		}
	}
}

// A call that avoids who has a run mostly goes to who wins against others, and not to anybody.
func TestAvoidingWhoHasARun(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(LeastRequest{ChoiceCount: 2}, withoutStalls), "a", "b", "c")
		rng := rand.New(rand.NewPCG(1, 2))
		b.find("a", "").tally.calls.Store(1000)
		for range 1000 {
			b.position.jostle(rng)
			for i := range b.position.blocks {
				b.position.blocks[i].run.Store(b.position.contests<<40 | 3<<32 | 1) // of b
			}
			ctx, rec := b.recorded()
			rec.Avoid("b")
			if id := b.idOf(b.startWith(ctx, unaryMethod)); id == "b" {
				t.Fatal("who is avoided is picked")
			}
		}
		if got := b.find("a", "").tally.inHand() - 1000; got > 250 { // half of them, if to anybody
			t.Errorf("%d of 1000 calls that avoid b went to a, which is busy", got)
		}
	})
}

// Who is slow gets few calls also where they are made in runs.
func TestP2CFollowsLatencyInRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(P2C{}, withoutStalls), append([]string{"a"}, fiveMore...)...)
		rng, got := rand.New(rand.NewPCG(1, 2)), 0
		const calls, each = 4000, time.Millisecond
		for i := range calls {
			b.position.jostle(rng)
			call := b.make(unaryMethod, time.Duration(i)*each, always("a", answer{after: 100 * time.Millisecond}))
			if call.id == "a" && i > calls/4 {
				got++
			}
			time.Sleep(each)
		}
		if got > calls/40 {
			t.Errorf("the slow one got %d of %d calls", got, calls*3/4)
		}
		time.Sleep(deadline)
	})
}
