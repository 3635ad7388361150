package balancer

import (
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
)

func TestLeastRequestFillsUpByWeight(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		p := LeastRequest{ChoiceCount: 10}
		b.resolve(p, server("a", weighing(2)), server("b"), server("c"))
		b.ready("a", "b", "c")
		for range 400 {
			b.call(t.Context()) // which does not end
		}
		for id, want := range map[string]uint32{"a": 200, "b": 100, "c": 100} {
			if got := b.find(id, "").tally.inHand(); got < want-3 || got > want+3 {
				t.Errorf("%s has %d calls in hand, want %d", id, got, want)
			}
		}
	})
}

// Of those that are equal for their share the first that is drawn is picked.
func TestLeastRequestKnowsEqualLoads(t *testing.T) {
	for _, tt := range []struct{ light, heavy uint32 }{{1, 2}, {1, 3}, {2, 3}, {7, 11}, {1, maxHand}} {
		s := scheduled(LeastRequest{ChoiceCount: 10}, nil, tt.light, tt.heavy).(*contest)
		s.equal = true // draw both, the first one in half of the draws
		for i := range s.all {
			s.all[i].own, s.all[i].other = 0, i
		}
		s.all[0].tally.calls.Store(uint64(tt.light))
		s.all[1].tally.calls.Store(uint64(tt.heavy))
		if got := count(draw(s, 1000))["a"]; got < 350 || got > 650 {
			t.Errorf("shares of %d and %d, as many calls in hand: the first got %d of 1000", tt.light, tt.heavy, got)
		}
	}
}

// closedLoop lets so many callers make one call after the other, each of which
// takes 10 ms, and returns who got which share of them.
func (b *bed) closedLoop(callers, calls int) map[string]float64 {
	var mu sync.Mutex
	shares := map[string]float64{}
	for range callers {
		go func() {
			for range calls / callers {
				result, err := b.picker.Pick(gbalancer.PickInfo{Ctx: b.t.Context(), FullMethodName: unaryMethod})
				if err != nil {
					b.t.Error(err)
					return
				}
				mu.Lock()
				shares[b.idOf(result)] += 1 / float64(calls)
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
				result.Done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
			}
		}()
	}
	time.Sleep(time.Duration(calls/callers) * 11 * time.Millisecond)
	synctest.Wait()
	return shares
}

// The fewer calls are in hand, the less a comparison of load must weigh: the draw
// has followed the weights already. With many choices among few instances it is the
// comparison that decides, in whole calls.
func TestLoadAwarePickersFollowTheWeights(t *testing.T) {
	for p, within := range map[Picker]float64{P2C{}: 0.05, LeastRequest{ChoiceCount: 2}: 0.05, LeastRequest{ChoiceCount: 10}: 0.15} {
		for _, callers := range []int{1, 4, 32} {
			inBubble(t, func(t *testing.T, b *bed) {
				b.resolve(p, server("a", weighing(5)), server("b", weighing(3)), server("c", weighing(2)))
				b.ready("a", "b", "c")
				shares := b.closedLoop(callers, 8_000)
				for id, want := range map[string]float64{"a": 0.5, "b": 0.3, "c": 0.2} {
					if math.Abs(shares[id]-want) > within {
						t.Errorf("%+v, %d callers: %s has a share of %.3f, want %.3f", p, callers, id, shares[id], want)
					}
				}
			})
		}
	}
}

// A slow instance has its calls longer in hand, so it gets fewer.
func TestLeastRequestAvoidsWhoIsSlow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(LeastRequest{ChoiceCount: 2}), append([]string{"a"}, fiveMore...)...)
		calls := b.load(1000, 5*time.Second, always("a", answer{after: 500 * time.Millisecond}))
		atMost(t, calls, "a", time.Second, 5*time.Second, 4*1000/6/4)
		time.Sleep(deadline)
	})
}
