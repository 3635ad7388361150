package balancer

import (
	"math/bits"
	"math/rand/v2"
	"time"
)

// P2C is the power of two choices: it draws two instances, each with a probability
// in proportion to its weight, two different ones where all weights are the same, and
// picks the one that will probably answer sooner: the latency of its recent answers
// times the calls it has in hand, this one and, for its weight, the others. It suits
// calls of similar size. Streams, and calls that are not known to be unary
// (StallDetection says how they are), count by their number only.
//
// The latency is a moving average over some two seconds that follows a slow answer
// at once and a fast one gradually (peak EWMA). A failure counts as a very slow
// answer, so that failing fast attracts no calls. An instance that was drawn with one
// that has been picked more than a second later is picked one time in eight, so that it
// can show that it has recovered. What is known of an instance is kept as long as the
// resolver names it.
//
// Of the unary calls to an instance two are timed in some ten ms (with n instances 10 ms
// and 10 µs for each): the first, if no stream comes before it, and another, drawn with a
// probability of 1/32. Each failure counts.
type P2C struct{}

func init() { register(P2C{}, nil) }

func (P2C) name() string { return "p2c" }

func (P2C) share(weight uint32) uint32 { return weight }

func (P2C) schedule(ready []*conn, shares []uint32, _ *position) schedule {
	return &twoChoices{newContest(ready, shares)}
}

const (
	// timedOf is of how many calls one is drawn that is timed besides the first in each
	// tick, which often finds an empty queue.
	timedOf = 32
	// neglected is who was last picked so long before the other, and triedOf of how many
	// draws in which somebody is that one picks them: where calls are rare that is all
	// draws, and they may be slow.
	neglected = time.Second
	triedOf   = 8
)

type twoChoices struct{ contest }

func (t *twoChoices) next() (c *conn, dice uint64) {
	random := rand.Uint64()
	first := t.draw(random)
	var second int
	if t.equal {
		second = t.another(first, random<<32|random>>32)
	} else if second = t.draw(random<<32 | random>>32); second == first {
		second = t.draw(random<<16 | random>>48)
	}
	a, b := &t.all[first], &t.all[second]
	if random%triedOf == 0 {
		if c := tried(a, b); c != nil {
			return c, random
		}
	}
	x, y := latencies(a.tally, b.tally)
	aHigh, aLow := a.wait(x)
	bHigh, bLow := b.wait(y)
	_, better := bits.Sub64(bLow, aLow, 0)
	_, better = bits.Sub64(bHigh, aHigh, better)
	return t.all[either(better, second, first)].conn, random
}

// latencies are those of the answers of two. Who has not answered yet is taken to be
// as fast as the other.
func latencies(a, b *tally) (x, y uint64) {
	x, y = uint64(a.peak.Load()), uint64(b.peak.Load())
	if x == 0 || y == 0 {
		return 1, 1
	}
	return x, y
}

// wait is how long a call to c will probably take.
func (c *contender) wait(latency uint64) (high, low uint64) {
	return bits.Mul64(averageCall+uint64(c.tally.inHand())*uint64(c.perCall), latency)
}

// tried returns, once, the one of two that was last picked too long before the other.
func tried(a, b *contender) *conn {
	earlier, later := a.tally.picked.Load(), b.tally.picked.Load()
	if earlier > later {
		a, earlier, later = b, later, earlier
	}
	if later-earlier > int64(neglected) && a.tally.picked.CompareAndSwap(earlier, later) {
		return a.conn
	}
	return nil
}
