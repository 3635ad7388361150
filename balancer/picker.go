package balancer

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/pick"
)

// picker is what gRPC gets while instances are ready: always the same one, which
// looks at the latest snapshot.
type picker struct {
	engine   *engine
	snapshot atomic.Pointer[snapshot]
	trial    atomic.Pointer[trial] // for the next unary call to make
	asleep   atomic.Bool           // the engine does not look at the instances
	clock    atomic.Int64          // the engine's at the last tick
	kinds    kinds
	picks    atomic.Int64 // since they were last recorded, if they are
}

// Pick implements gbalancer.Picker. For most calls there is nothing to do but to
// see whose turn it is.
func (p *picker) Pick(info gbalancer.PickInfo) (gbalancer.PickResult, error) {
	rec := pick.FromContext(info.Ctx)
	if rec != nil {
		rec = p.engine.told(rec.For(info.FullMethodName))
	}
	s := p.snapshot.Load()
	if !rec.Fresh() || p.trial.Load() != nil {
		return p.choose(s, info, rec)
	}
	c, dice := s.schedule.next(false)
	todo := c.onPick.Load()
	switch {
	case c.rank.Load() > s.worst:
		return p.choose(s, info, rec)
	case todo&seldom(dice) != 0:
		return p.use(c, info, rec, dice), nil
	case todo == 0 && rec == nil:
		return c.result(c.dones[uncounted][0]), nil
	}
	note := noted{counted: countsEnd(todo)}
	if todo&countHand != 0 {
		if rec == nil {
			note.kind = p.kinds.expected(info.FullMethodName)
		}
		if note.kind == uncounted {
			note.kind = p.kind(info.FullMethodName, rec)
		}
	}
	if rec != nil {
		return c.recorded(info.Ctx, rec, note, nil), nil
	}
	return c.unrecorded(note), nil
}

// choose is Pick where hints, trials, or lost connections have to be looked at.
func (p *picker) choose(s *snapshot, info gbalancer.PickInfo, rec *pick.Record) (gbalancer.PickResult, error) {
	if id, ok := rec.Pinned(); ok {
		return p.engine.pickPinned(id, info, rec)
	}
	if last, spent := rec.Spent(); spent {
		return gbalancer.PickResult{}, spentError(last)
	}
	if t := p.takeTrial(info, rec); t != nil {
		return t.begin(info, rec), nil
	}
	c, o, dice := s.choose(rec)
	if o > objection(s.worst) { // somebody better may have come
		if fresh := p.engine.refresh(); fresh != s {
			s = fresh
			c, o, dice = s.choose(rec)
		}
	}
	if rec.Elsewhere() && (c == nil || o >= avoided) {
		return nobodyElse(rec)
	}
	if c != nil {
		return p.use(c, info, rec, dice), nil
	}
	return nothing(rec, waiting{p.engine})
}

// use returns what Pick returns for this connection.
func (p *picker) use(c *conn, info gbalancer.PickInfo, rec *pick.Record, dice uint64) gbalancer.PickResult {
	todo := c.onPick.Load()
	note := noted{counted: countsEnd(todo)}
	if todo&countHand != 0 {
		note.kind = p.kind(info.FullMethodName, rec)
	}
	if now := todo & seldom(dice); now != 0 {
		note.began = p.look(c, info.FullMethodName, rec, now)
	}
	switch {
	case rec != nil:
		return c.recorded(info.Ctx, rec, note, nil)
	case note.began != 0:
		return c.timed(note)
	default:
		return c.unrecorded(note)
	}
}

// kind is what kind of call this is, by its record or else by its method.
func (p *picker) kind(method string, rec *pick.Record) callKind {
	if rec.Unary() {
		return unaryCall
	}
	return p.kinds.of(method)
}

// look takes note of a pick, and returns since when it is timed, if it is. By the
// calls that take their time the engine also learns that calls are made again.
func (p *picker) look(c *conn, method string, rec *pick.Record, todo uint32) (began time.Duration) {
	p.count(todo)
	switch {
	case todo&takeTime != 0:
		c.onPick.And(^takeTime)
		unary := p.kind(method, rec) == unaryCall
		if !rec.Unary() {
			p.kinds.expect(method)
		}
		if c.asked.Load() != unary {
			c.asked.Store(unary)
		}
		p.engine.wake()
		c.tally.picked.Store(p.clock.Load())
		if !unary {
			return 0
		}
	case todo&timeSome != 0 && p.kind(method, rec) == unaryCall:
		c.onPick.And(^timeSome)
	default:
		return 0
	}
	return max(1, p.engine.now())
}

// count counts a pick if that is to be done.
func (p *picker) count(todo uint32) {
	if todo&countPicks != 0 {
		p.picks.Add(1)
	}
}

// takeTrial returns the trial that this call is to be, if there is one.
func (p *picker) takeTrial(info gbalancer.PickInfo, rec *pick.Record) *trial {
	t := p.trial.Load()
	if t == nil || p.kind(info.FullMethodName, rec) != unaryCall || t.conn.rank.Load() == rankLost || rec.Avoids(t.conn.target.ID) || !p.trial.CompareAndSwap(t, nil) {
		return nil
	}
	t.begun.Store(max(1, int64(p.engine.now())))
	p.engine.wake()
	return t
}

// begin returns what Pick returns for the call that is the trial.
func (t *trial) begin(info gbalancer.PickInfo, rec *pick.Record) gbalancer.PickResult {
	c := t.conn
	c.child.engine.picker.count(c.onPick.Load())
	tried := func(o outcome) { c.child.engine.tried(t, o) }
	note := noted{kind: unaryCall}
	if rec != nil {
		return c.recorded(info.Ctx, rec, note, tried)
	}
	c.tally.enter(note.kind)
	return c.result(func(info gbalancer.DoneInfo) {
		_, o := c.judged(&info, nil, note)
		tried(o)
	})
}

// nobody is what gRPC gets while no instance is ready.
type nobody struct {
	engine *engine
	err    error
}

// Pick implements gbalancer.Picker.
func (p *nobody) Pick(info gbalancer.PickInfo) (gbalancer.PickResult, error) {
	rec := p.engine.told(pick.FromContext(info.Ctx).For(info.FullMethodName))
	if id, ok := rec.Pinned(); ok {
		return p.engine.pickPinned(id, info, rec)
	}
	if rec.Elsewhere() {
		return nobodyElse(rec)
	}
	return nothing(rec, p.err)
}

// nobodyElse ends an attempt that was to go to an instance of its own. There is
// another attempt beside it, so it does not wait.
func nobodyElse(rec *pick.Record) (gbalancer.PickResult, error) {
	return nothing(rec, status.Error(codes.Unavailable, "rollcall: no other instance is ready"))
}

// nothing ends a pick with err, and notes that nobody was picked.
func nothing(rec *pick.Record, err error) (gbalancer.PickResult, error) {
	rec.NotPicked(err)
	if errors.Is(err, gbalancer.ErrNoSubConnAvailable) {
		err = gbalancer.ErrNoSubConnAvailable
	}
	return gbalancer.PickResult{}, err
}

// pickPinned picks the instance with this ID and no other. While it connects the
// call waits; who pins bounds that. When it cannot be connected the call ends.
func (e *engine) pickPinned(id string, info gbalancer.PickInfo, rec *pick.Record) (gbalancer.PickResult, error) {
	if last, spent := rec.Spent(); spent {
		return gbalancer.PickResult{}, spentError(last)
	}
	conn, err := e.pinned(id)
	if err != nil {
		return nothing(rec, err)
	}
	return e.picker.use(conn, info, rec, rand.Uint64()), nil
}

// spentError ends a call that has made all attempts it may. gRPC would lose what
// the last one ended with, so the error carries it, in a code that gRPC lets a
// policy return (gRFC A54). That nobody was picked is not noted in the record:
// attempts before may have executed.
func spentError(last error) error {
	st := status.Convert(last)
	code := st.Code()
	switch code {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition,
		codes.Aborted, codes.OutOfRange, codes.DataLoss:
		code = codes.Unavailable
	}
	return status.Errorf(code, "rollcall: the call has made all attempts it may; the last: %v: %s", st.Code(), st.Message())
}

func (e *engine) pinned(id string) (*conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := status.Errorf(codes.Unavailable, "rollcall: pinned instance %s is gone", id)
	for _, c := range e.children[id] { // the latest process under this ID last
		switch c.state {
		case connectivity.Ready:
			return c.conn, nil
		case connectivity.TransientFailure:
			err = status.Errorf(codes.Unavailable, "rollcall: pinned instance %s cannot be connected: %s", id, c.why)
		default:
			err = gbalancer.ErrNoSubConnAvailable
		}
	}
	return nil, err
}
