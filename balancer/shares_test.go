package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/registry"
)

// ledger compares how often each instance was picked with how often it should have
// been, call by call.
type ledger struct {
	*bed
	due   map[string]float64
	ahead map[string][]float64 // after each call
	calls int
	crowd *rand.Rand // if not nil, calls collide, each on some processor
}

func (l *ledger) call(n int) {
	shares, sum := map[string]float64{}, 0.0
	for _, c := range l.order {
		if c.state == connectivity.Ready && c.rank() == rankWanted {
			shares[c.id] = float64(l.share(c))
			sum += shares[c.id]
		}
	}
	for range n {
		if l.crowd != nil {
			l.position.jostle(l.crowd)
		}
		picked := l.picks(l.t.Context(), 1)[0]
		l.calls++
		for id, share := range shares {
			l.due[id] += share / sum
		}
		l.due[picked]--
		for id, due := range l.due {
			for len(l.ahead[id]) < l.calls-1 {
				l.ahead[id] = append(l.ahead[id], 0)
			}
			l.ahead[id] = append(l.ahead[id], -due)
		}
	}
}

// worst returns by how many calls of any so many in a row anybody had too many or
// too few.
func (l *ledger) worst(window int) (worst float64) {
	for _, ahead := range l.ahead {
		for i := range len(ahead) - window {
			worst = max(worst, math.Abs(ahead[i+window]-ahead[i]))
		}
	}
	return worst
}

// jostle lets the next call be one of those that collide, on any processor.
func (p *position) jostle(rng *rand.Rand) {
	p.crowded.Store(true)
	clear(p.seats[:])
	p.nearest.Get()
	p.nearest.Put(&p.blocks[rng.IntN(len(p.blocks))])
}

// Over any 1,000 calls everybody has the share that is theirs at each of these
// calls, within 2 %, whatever changes meanwhile and whether calls collide or not.
func TestSharesHoldThroughChanges(t *testing.T) {
	for _, tt := range []struct {
		picker     Picker
		processors int // on which calls collide
	}{{RoundRobin{}, 0}, {WeightedRoundRobin{}, 0}, {RoundRobin{}, 2}, {WeightedRoundRobin{}, 2}, {RoundRobin{}, 8}, {WeightedRoundRobin{}, 8}} {
		inBubble(t, func(t *testing.T, b *bed) {
			p := tt.picker
			cfg := configWith(p, ejecting())
			var insts []registry.Instance
			for i := range 10 {
				insts = append(insts, server(fmt.Sprintf("s%d/1", i), weighing(uint32(1+i%3))))
			}
			l := &ledger{bed: b, due: map[string]float64{}, ahead: map[string][]float64{}}
			if tt.processors > 0 {
				l.crowd = rand.New(rand.NewPCG(1, 2))
				b.position.blocks = make([]block, tt.processors)
				for i := range b.position.blocks {
					b.position.blocks[i].index = uint32(i)
				}
			}
			b.resolveWith(cfg, insts...)
			for i := range insts {
				b.ready(insts[i].ID)
			}
			l.call(1500)
			for i := range insts { // weights, often
				insts[i].Weight = uint32(1 + (i*7)%5)
				b.resolveWith(cfg, insts...)
				l.call(137)
			}
			for _, c := range b.order[:4] { // ejections, and the end of them
				b.mu.Lock()
				b.eject(c, b.now(), 1, "for the test")
				b.mu.Unlock()
				b.pass()
				l.call(211)
				b.mu.Lock()
				b.reinstate(c, "for the test")
				b.mu.Unlock()
				b.pass()
				l.call(97)
			}
			for i := range insts { // a rolling restart
				draining(&insts[i])
				b.resolveWith(cfg, insts...)
				l.call(53)
				b.sub(insts[i].ID).Set(connectivity.Idle, nil)
				b.pass()
				l.call(53)
				insts[i] = server(insts[i].ID+"/2", weighing(insts[i].Weight))
				b.resolveWith(cfg, insts...)
				l.call(53)
				b.ready(insts[i].ID)
				l.call(53)
			}
			l.call(1500)
			if worst := l.worst(1000); worst > 20 {
				t.Errorf("%+v: of some 1000 calls in a row somebody had %.1f too many or too few, want 20 at most", tt, worst)
			} else {
				t.Logf("%+v: at most %.1f calls of 1000 too many or too few", tt, worst)
			}
		})
	}
}
