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
// answer, so that failing fast attracts no calls. An instance that was drawn and
// has not been picked for a second is picked, so that it can show that it has
// recovered. What is known of an instance is kept as long as the resolver names it.
//
// The first call to an instance in some ten ms is timed, and of more one in 16; each
// failure counts.
type P2C struct{}

func init() { register(P2C{}, nil) }

func (P2C) name() string { return "p2c" }

func (P2C) share(weight uint32) uint32 { return weight }

func (P2C) schedule(ready []*conn, shares []uint32, _ *position) schedule {
	return &twoChoices{newContest(ready, shares)}
}

// timedOf is of how many calls one is timed where there are many.
const timedOf = 16

// neglected is who has not been picked for so long.
const neglected = time.Second

type twoChoices struct{ contest }

func (t *twoChoices) next() (c *conn, dice uint64) {
	random := rand.Uint64()
	a := t.draw(random)
	b := t.rival(a, random<<32|random>>32)
	if a == b && len(t.lottery) > 1 {
		b = t.draw(rand.Uint64())
	}
	if b.isBetter(a) {
		a, b = b, a
	}
	if b.isNeglected() {
		return b.conn, random
	}
	return a.conn, random
}

// isBetter says whether c will probably answer sooner than o. Who has not answered
// yet is taken to be as fast as the other.
func (c *contender) isBetter(o *contender) bool {
	mine, others := c.tally.peak.Load(), o.tally.peak.Load()
	if mine == 0 || others == 0 {
		mine, others = 1, 1
	}
	return (1+c.load())*float64(mine) < (1+o.load())*float64(others)
}

// isNeglected says, once, that an instance has not been picked for too long.
func (c *contender) isNeglected() bool {
	now, picked := c.child.engine.picker.clock.Load(), c.tally.picked.Load()
	return now-picked > int64(neglected) && c.tally.picked.CompareAndSwap(picked, now)
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
