package balancer

import (
	"math/rand/v2"
	"sync"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
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
// Of the unary calls one in 32 is timed, and the first to an instance in some ten ms if
// no stream comes before it (with n instances 10 ms and 10 µs for each); each failure
// counts.
type P2C struct{}

func init() { register(P2C{}, nil) }

func (P2C) name() string { return "p2c" }

func (P2C) share(weight uint32) uint32 { return weight }

func (P2C) schedule(ready []*conn, shares []uint32, _ *position) schedule {
	return &twoChoices{newContest(ready, shares)}
}

const (
	// timedOf is of how many calls one is timed besides the first in each tick, which
	// often finds an empty queue.
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
	second := t.rival(first, random<<32|random>>32)
	if first == second && len(t.all) > 1 {
		second = t.draw(rand.Uint64())
	}
	a, b := &t.all[first], &t.all[second]
	x, y := latencies(a.tally, b.tally)
	better := less(b.wait(y), a.wait(x))
	winner, loser := &t.all[either(better, second, first)], &t.all[either(better, first, second)]
	if loser.tally.isTried(winner.tally, random) {
		return loser.conn, random
	}
	return winner.conn, random
}

// latencies are those of the answers of two. Who has not answered yet is taken to be
// as fast as the other.
func latencies(a, b *tally) (x, y int64) {
	x, y = a.peak.Load(), b.peak.Load()
	if x == 0 || y == 0 {
		return 1, 1
	}
	return x, y
}

// wait is how long a call to c will probably take.
func (c *contender) wait(latency int64) float64 { return (1 + c.load()) * float64(latency) }

// isTried says, once, that an instance that was last picked too long before another is
// picked in its place.
func (t *tally) isTried(other *tally, random uint64) bool {
	picked, others := t.picked.Load(), other.picked.Load()
	return others-picked > int64(neglected) && random%triedOf == 0 && t.picked.CompareAndSwap(picked, others)
}

// stopwatch measures a call without a record. It is used again, so that no call
// allocates one.
type stopwatch struct {
	conn *conn
	call noted
	done func(gbalancer.DoneInfo)
}

// stopwatches are those that are not in use.
type stopwatches struct{ pool sync.Pool }

func (s *stopwatches) start(c *conn, call noted) gbalancer.PickResult {
	w, ok := s.pool.Get().(*stopwatch)
	if !ok {
		w = new(stopwatch)
		w.done = func(info gbalancer.DoneInfo) {
			conn, call := w.conn, w.call
			w.conn = nil
			s.pool.Put(w)
			conn.ended(&info, call)
		}
	}
	w.conn, w.call = c, call
	c.tally.enter(call.kind)
	return c.result(w.done)
}
