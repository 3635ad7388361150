package balancer

import (
	"math/bits"
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
// From a million calls a second on, of all of this client's balancer, each processor
// makes its next three calls to the instance that it has picked: what is compared
// changes so often then that comparing it costs several times as much as the calls
// that it is off by are worth. LeastRequest does the same.
//
// Of the unary calls to an instance two are timed in some ten ms (with n instances 10 ms
// and 10 µs for each): the first, if no stream comes before it, and another, drawn with a
// probability of 1/32. Each failure counts.
type P2C struct{}

func init() { register(P2C{}, nil) }

func (P2C) name() string { return "p2c" }

func (P2C) share(weight uint32) uint32 { return weight }

func (p P2C) schedule(ready []*conn, shares []uint32, at *position) schedule {
	return newContest(p, ready, shares, &at.crowd)
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

func (P2C) winner(d *contest, random uint64) int {
	first := d.draw(random)
	var second int
	if d.equal {
		second = d.another(first, random<<32|random>>32)
	} else if second = d.draw(random<<32 | random>>32); second == first {
		second = d.draw(random<<16 | random>>48)
	}
	a, b := &d.all[first], &d.all[second]
	if random%triedOf == 0 {
		switch {
		case neglects(a, b):
			return first
		case neglects(b, a):
			return second
		}
	}
	x, y := latencies(a.tally, b.tally)
	aHigh, aLow := a.wait(x)
	bHigh, bLow := b.wait(y)
	_, better := bits.Sub64(bLow, aLow, 0)
	_, better = bits.Sub64(bHigh, aHigh, better)
	return either(better, second, first)
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

// neglects says, once, that the first of two was last picked too long before the second.
func neglects(a, b *contender) bool {
	earlier, later := a.tally.picked.Load(), b.tally.picked.Load()
	return later-earlier > int64(neglected) && a.tally.picked.CompareAndSwap(earlier, later)
}
