package balancer

import (
	"math/rand/v2"
	"sync/atomic"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/pick"
)

// The ranks of a connection: the lower the better.
const (
	rankWanted  uint32 = iota
	rankReserve        // its instance drains or closes: only if nobody is wanted
	rankLost           // not ready: never
)

// conn is a ready connection to an instance, with everything that a pick of it
// needs. After it was lost it is used again if the same SubConn becomes ready.
type conn struct {
	rank   atomic.Uint32
	result gbalancer.PickResult // for calls without a record
	target pick.Target
	child  *child
}

func newConn(c *child, sc gbalancer.SubConn) *conn {
	conn := &conn{child: c, target: pick.Target{ID: c.id, Life: c.life, Addr: c.connected}}
	conn.result = gbalancer.PickResult{SubConn: sc, Done: func(info gbalancer.DoneInfo) { conn.marks(info.Trailer) }}
	return conn
}

// use returns what Pick returns for this connection.
func (c *conn) use(rec *pick.Record) gbalancer.PickResult {
	if rec == nil {
		return c.result
	}
	result, attempt := c.result, rec.Begin(c.target)
	result.Done = func(info gbalancer.DoneInfo) {
		if class, used := classify(info, c.marks(info.Trailer)); used {
			rec.Advise(attempt, advice(info))
			rec.End(attempt, class, info.Err)
		} else {
			rec.Unused(attempt)
		}
	}
	return result
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
func classify(info gbalancer.DoneInfo, marks drain.Marks) (class pick.Class, used bool) {
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
func advice(info gbalancer.DoneInfo) pick.Advice {
	if info.Err == nil || len(info.Trailer) == 0 {
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
	ready    []*conn // all that were ready, those in the schedule and the reserve
	worst    uint32  // the worst rank of those in the schedule
}

// maxTurns is how often the schedule is asked for somebody else before all ready
// connections are searched. Each turn counts, so that what cannot be used is left
// out of the picker's order and the others' shares stay in proportion.
const maxTurns = 8

// choose returns the connection for a call with this record and what speaks
// against it, or nil if none is ready any more. It is where hints are honoured,
// for all pickers.
func (s *snapshot) choose(rec *pick.Record) (*conn, objection) {
	for range min(maxTurns, len(s.ready)) {
		if c := s.schedule.next(); c.rank.Load() <= s.worst && !rec.Avoids(c.target.ID) {
			return c, objection(s.worst)
		}
	}
	return s.search(rec)
}

// objection is what speaks against picking a connection: its rank, and more if
// the call avoids the instance. That weighs more than draining: it may have
// failed this call already, while a draining one serves.
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
