package balancer

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
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
// answer, so that failing fast attracts no calls. An instance that was drawn and
// has not been picked for a second is picked, so that it can show that it has
// recovered. What is known of an instance is kept as long as the resolver names it.
//
// Of the calls to an instance the first in some ten ms is timed if it is unary (with
// n instances 10 ms and 10 µs for each); each failure counts.
type P2C struct{}

func init() { register(P2C{}, nil) }

func (P2C) name() string { return "p2c" }

func (P2C) share(weight uint32) uint32 { return weight }

func (P2C) schedule(ready []*conn, shares []uint32, _ *position) schedule {
	return &twoChoices{newContest(ready, shares), &ready[0].child.engine.picker.clock}
}

// neglected is who has not been picked for so long.
const neglected = time.Second

type twoChoices struct {
	contest
	clock *atomic.Int64 // the engine's at the last tick
}

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
	if c := &t.all[either(better, first, second)]; c.tally.isNeglected(t.clock.Load()) {
		return c.conn, random
	}
	return t.all[either(better, second, first)].conn, random
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

// isNeglected says, once, that an instance has not been picked for too long.
func (t *tally) isNeglected(clock int64) bool {
	picked := t.picked.Load()
	return clock-picked > int64(neglected) && t.picked.CompareAndSwap(picked, clock)
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
