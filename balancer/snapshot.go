package balancer

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/pick"
)

// The ranks of a connection: the lower the better.
const (
	rankWanted  uint32 = iota
	rankDistant        // its zone is not the client's, which has enough of its own
	rankReserve        // its instance drains or closes
	rankSuspect        // its instance fails or is silent
	rankLost           // not ready: never
)

// What Pick has to do for a connection besides returning it.
const (
	takeTime   uint32 = 1 << iota // of the next unary call
	countHand                     // count the calls in hand
	countPicks                    // count the pick
	countEnd                      // count how the call ends
	timeSome                      // take the time of another unary call, which is drawn by its dice
)

// seldom is what few of the picks with such dice have to do.
func seldom(dice uint64) uint32 {
	if dice%timedOf == 0 {
		return takeTime | countPicks | timeSome
	}
	return takeTime | countPicks
}

// What Done has to do when a call was answered.
const (
	sayAlive uint32 = 1 << iota // clear this
	endRow                      // of failures
)

// conn is a ready connection to an instance, with everything that a pick of it
// needs. After it was lost it is used again if the same SubConn becomes ready.
type conn struct {
	// A pick and its Done read these, in one cache line, and mostly find nothing to
	// do.
	rank     atomic.Uint32
	onPick   atomic.Uint32
	onAnswer atomic.Uint32
	column   uint16 // in answers
	subConn  gbalancer.SubConn
	tally    *tally
	answers  *answers // the child's
	// dones are for calls without a record, as far as prepared. Those of calls that are not
	// counted in hand are in the first cache line as well.
	dones [len(inHand)][2]func(gbalancer.DoneInfo)

	asked  atomic.Bool // the call of which the time was taken was unary
	child  *child
	target pick.Target
	watch  stopwatch
	_      [64]byte // so that its size is a power of two, which Go aligns to cache lines
}

func newConn(c *child, sc gbalancer.SubConn) *conn {
	conn := &conn{subConn: sc, child: c, tally: c.tally, target: pick.Target{ID: c.id, Life: c.life, Addr: c.address}}
	// What busy connections use in turn mostly lies in one cache line if it is small and
	// made together.
	conn.dones[uncounted][0] = func(info gbalancer.DoneInfo) { conn.ended(&info, noted{}) }
	conn.dones[uncounted][1] = func(info gbalancer.DoneInfo) { conn.ended(&info, noted{counted: 1}) }
	conn.onPick.Store(takeTime)
	conn.onAnswer.Store(sayAlive)
	return conn
}

// prepare makes the Dones of picks that have so much to do. Most connections need few
// of them, and of many connections what is not needed is in the way.
func (c *conn) prepare(todo uint32) {
	kinds := uncounted
	if todo&countHand != 0 {
		kinds = unaryCall
	}
	for kind := range kinds + 1 {
		for counted := range countsEnd(todo) + 1 {
			if call := (noted{kind: kind, counted: counted}); c.dones[kind][counted] == nil {
				c.dones[kind][counted] = func(info gbalancer.DoneInfo) { c.ended(&info, call) }
			}
		}
	}
}

// noted is what is counted of a call. It has no more than four fields, so that it is
// passed in registers.
type noted struct {
	began   time.Duration // on the engine's clock, 0 if it is not timed
	attempt int32         // its number in the call's record, if it has one
	kind    callKind      // in hand
	counted uint8         // countsEnd
}

// countsEnd is 1 if of a call for which so much is to be done at the pick it counts how it
// ends, else 0.
func countsEnd(todo uint32) uint8 { return uint8(todo / countEnd & 1) }

// ended takes note of how a call without a record has ended.
func (c *conn) ended(info *gbalancer.DoneInfo, call noted) {
	if call.began == 0 && plain(info) {
		c.answered(call)
	} else {
		c.judged(info, nil, call)
	}
}

// plain says whether a call was answered well and with nothing in the trailer, as
// most are: that takes no judgement.
func plain(info *gbalancer.DoneInfo) bool {
	return info.Err == nil && info.BytesReceived && len(info.Trailer) == 0
}

// judged takes note of how a call has ended, and says how that is judged. ctx is the
// attempt's, if known.
func (c *conn) judged(info *gbalancer.DoneInfo, ctx context.Context, call noted) (drain.Marks, outcome) {
	marks, o := c.marks(info.Trailer), judge(info, ctx)
	if marks.Closing && o == bad {
		o = moot // it says so itself
	}
	if o == good {
		c.answered(call)
	} else {
		c.tally.leave(call.kind)
	}
	if o == bad && call.counted != 0 {
		c.tally.fail()
		set(&c.onAnswer, endRow, true)
		c.child.engine.failed(c)
	}
	if call.began != 0 || o == bad && call.kind == unaryCall {
		now, took := c.child.engine.now(), time.Duration(0)
		if call.began != 0 {
			took = now - call.began
		}
		c.tally.observe(now, took, o)
	}
	if info.BytesReceived {
		c.alive()
	}
	return marks, o
}

// answered does what is to be done when a call was answered.
func (c *conn) answered(call noted) {
	if call.kind != uncounted {
		c.tally.calls.Add(uint64(call.counted)*oneAnswer - inHand[call.kind])
	} else if call.counted != 0 {
		c.answers.add(c.column)
	}
	if c.onAnswer.Load() != 0 {
		c.endRow()
		c.alive()
	}
}

// endRow ends a row of failures if there is one.
func (c *conn) endRow() {
	if c.onAnswer.Load()&endRow == 0 {
		return
	}
	if c.rank.Load() != rankLost {
		c.onAnswer.And(^endRow)
	}
	if c.rank.Load() == rankLost { // whose calls cannot know when others fail
		c.onAnswer.Or(endRow)
	}
	c.tally.consecutive.Store(0) // not before: who fails does not set what is still set
}

func (c *conn) alive() {
	if c.onAnswer.Load()&sayAlive != 0 {
		c.onAnswer.And(^sayAlive)
	}
}

// unrecorded is what Pick returns for a call without a record.
func (c *conn) unrecorded(call noted) gbalancer.PickResult {
	c.tally.enter(call.kind)
	return c.result(c.dones[call.kind][call.counted])
}

// stopwatch measures a call without a record. There is one for each connection, so that
// most calls that are timed allocate nothing.
type stopwatch struct {
	inUse atomic.Bool
	call  noted
	done  func(gbalancer.DoneInfo)
}

// timed is what Pick returns for a call without a record that is timed.
func (c *conn) timed(call noted) gbalancer.PickResult {
	c.tally.enter(call.kind)
	w := &c.watch
	if !w.inUse.CompareAndSwap(false, true) {
		return c.result(func(info gbalancer.DoneInfo) { c.ended(&info, call) })
	}
	if w.done == nil {
		w.done = func(info gbalancer.DoneInfo) {
			call := w.call
			w.inUse.Store(false)
			c.ended(&info, call)
		}
	}
	w.call = call
	return c.result(w.done)
}

// result is what Pick returns for a call with this Done.
func (c *conn) result(done func(gbalancer.DoneInfo)) gbalancer.PickResult {
	return gbalancer.PickResult{SubConn: c.subConn, Done: done}
}

// recorded is what Pick returns for a call with a record. ended may be nil and is
// called with the outcome.
func (c *conn) recorded(ctx context.Context, rec *pick.Record, note noted, ended func(outcome)) gbalancer.PickResult {
	c.tally.enter(note.kind)
	note.attempt = int32(rec.Begin(&c.target))
	return c.result(func(info gbalancer.DoneInfo) {
		attempt := int(note.attempt)
		if ended == nil && note.began == 0 && plain(&info) {
			c.answered(note)
			rec.End(attempt, pick.Answered, nil)
			return
		}
		marks, o := c.judged(&info, ctx, note)
		if class, used := classify(&info, marks); used {
			if info.Err != nil {
				rec.Advise(attempt, advice(&info))
			}
			rec.End(attempt, class, info.Err)
		} else {
			rec.Unused(attempt)
		}
		if ended != nil {
			ended(o)
		}
	})
}

// marks returns what the trailer of an answer proves about the server, and sees to
// it that a closing one gets no new calls.
func (c *conn) marks(trailer metadata.MD) drain.Marks {
	if len(trailer) == 0 {
		return drain.Marks{}
	}
	marks := drain.Read(trailer, c.target.ID, c.target.Life)
	if marks.Closing {
		c.child.engine.closing(c.child)
	}
	return marks
}

// classify says what is certain about an attempt that ended like this, with these
// marks proven; used is false when gRPC found the connection lost and did not use
// the pick, which says nothing about the instance.
func classify(info *gbalancer.DoneInfo, marks drain.Marks) (class pick.Class, used bool) {
	switch {
	case info.Err == nil && !info.BytesSent && !info.BytesReceived:
		return pick.NotSent, false
	case !info.BytesSent: // which is proof, while true is not proof of the contrary
		return pick.NotSent, true
	case info.Err == nil:
		return pick.Answered, true
	case marks.NotExecuted:
		return pick.Refused, true
	case info.BytesReceived:
		return pick.Answered, true
	default:
		return pick.Unanswered, true
	}
}

// advice is what the server of a failed attempt says about another one.
func advice(info *gbalancer.DoneInfo) pick.Advice {
	if len(info.Trailer) == 0 {
		return pick.Advice{}
	}
	never, wait := drain.ReadRetry(info.Trailer)
	return pick.Advice{Never: never, Wait: wait}
}

// snapshot is what picks are made from while the set of ready connections stays
// the same. It is immutable; what is lost since it was made shows in the rank of
// the connection.
type snapshot struct {
	schedule schedule
	ready    []*conn // all that were ready, those in the schedule and the others
	worst    uint32  // the worst rank of those in the schedule
}

// maxTurns is how often the schedule is asked for somebody else before all ready
// connections are searched. Each turn counts, so that what cannot be used is left
// out of the picker's order and the others' shares stay in proportion.
const maxTurns = 8

// choose returns the connection for a call with this record and what speaks
// against it, or nil if none is ready any more. It is where hints are honoured,
// for all pickers.
func (s *snapshot) choose(rec *pick.Record) (c *conn, o objection, dice uint64) {
	for range min(maxTurns, len(s.ready)) {
		if c, dice = s.schedule.next(true); c.rank.Load() <= s.worst && !rec.Avoids(c.target.ID) {
			return c, objection(s.worst), dice
		}
	}
	c, o = s.search(rec)
	return c, o, rand.Uint64()
}

// objection is what speaks against picking a connection: its rank, and more if
// the call avoids the instance. That weighs more than anything else: it may have
// failed this call already.
type objection uint32

const (
	none    objection = objection(rankWanted)
	avoided objection = objection(rankLost)
	never   objection = avoided + objection(rankLost)
)

// search returns the connection with the least objection, from a random one on so
// that those nobody wants share what is left.
func (s *snapshot) search(rec *pick.Record) (best *conn, least objection) {
	least = never
	first := rand.IntN(len(s.ready))
	for i := range s.ready {
		c := s.ready[(first+i)%len(s.ready)]
		rank := c.rank.Load()
		if rank == rankLost {
			continue
		}
		o := objection(rank)
		if rec.Avoids(c.target.ID) {
			o += avoided
		}
		if o < least {
			best, least = c, o
		}
		if least == none {
			break
		}
	}
	return best, least
}
