package balancer

import (
	"errors"
	"sync/atomic"

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
}

// Pick implements gbalancer.Picker.
func (p *picker) Pick(info gbalancer.PickInfo) (gbalancer.PickResult, error) {
	rec := recordOf(info)
	s := p.snapshot.Load()
	if rec == nil {
		if c := s.schedule.next(); c.rank.Load() <= s.worst {
			return c.result, nil
		}
	} else if id, ok := rec.Pinned(); ok {
		return p.engine.pickPinned(id, rec)
	} else if last, spent := rec.Spent(); spent {
		return gbalancer.PickResult{}, spentError(last)
	}
	c, o := s.choose(rec)
	if o != none && p.engine.refresh() { // somebody better may have come
		c, o = p.snapshot.Load().choose(rec)
	}
	if rec.Elsewhere() && (c == nil || o >= avoided) {
		return nobodyElse(rec)
	}
	if c != nil {
		return c.use(rec), nil
	}
	return nothing(rec, waiting{p.engine})
}

// nobody is what gRPC gets while no instance is ready.
type nobody struct {
	engine *engine
	err    error
}

// Pick implements gbalancer.Picker.
func (p *nobody) Pick(info gbalancer.PickInfo) (gbalancer.PickResult, error) {
	rec := recordOf(info)
	if id, ok := rec.Pinned(); ok {
		return p.engine.pickPinned(id, rec)
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

func recordOf(info gbalancer.PickInfo) *pick.Record {
	return pick.FromContext(info.Ctx).For(info.FullMethodName)
}

// pickPinned picks the instance with this ID and no other. While it connects the
// call waits; who pins bounds that. When it cannot be connected the call ends.
func (e *engine) pickPinned(id string, rec *pick.Record) (gbalancer.PickResult, error) {
	if last, spent := rec.Spent(); spent {
		return gbalancer.PickResult{}, spentError(last)
	}
	conn, err := e.pinned(id)
	if err != nil {
		return nothing(rec, err)
	}
	return conn.use(rec), nil
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
