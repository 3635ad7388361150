package registrar

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/registry"
)

// The errors that the calls of a Registrar return, wrapped with the details.
var (
	// ErrStarted: Serve or Start was called before. A Registrar has one life.
	ErrStarted = errors.New("already started")
	// ErrStopped: Shutdown or Stop was called before, or the life is over.
	ErrStopped = errors.New("stopped")
	// ErrForced: a bound expired, or Stop was called, while calls were in hand.
	// They were cut off; their callers see Unavailable.
	ErrForced = errors.New("calls in hand were cut off")
	// ErrIDTaken: a live process is registered under the ID given to New.
	ErrIDTaken = errors.New("another process has this ID")
)

// Registry is what a Registrar needs of a registry; every registry.Registry is
// one. To advertise a server that listens on all interfaces it must also have
//
//	LocalAddr(ctx context.Context) (netip.Addr, error)
//
// which returns the local address of the route to the registry.
type Registry interface {
	Register(ctx context.Context, inst registry.Instance) (registry.Registration, error)
}

// Registrar puts one gRPC server into a registry for as long as it serves, and
// takes it out in the order that loses no call. Make it with New; it has one
// life and cannot be started again. Its methods may be called by any goroutine,
// in any state and any number of times, except that Shutdown and Stop must not
// be called by a handler of the server or by an observer: they would wait for
// themselves, Shutdown until its bounds.
type Registrar struct {
	reg  Registry
	opts options
	gate *gate

	named bool // the ID was given

	health healthSwitch
	turn   chan struct{} // holds a token while the registration is updated

	state    atomic.Int32  // a State, written by the goroutine that runs the life
	optioned atomic.Bool   // ServerOptions was called
	up       chan struct{} // closed when Start may report success
	done     chan struct{} // closed at the end; err is set before

	wanted context.Context // ends, with the reason as its cause, when the server is to go down
	unwant context.CancelCauseFunc
	alive  context.Context // ends when the server is to stop hard; wanted has then ended too
	kill   context.CancelFunc

	hurry chan struct{} // one that waits in it: deadline has changed

	mu       sync.Mutex            // guards all below; nothing is called under it
	inst     registry.Instance     // as it is wanted in the registry
	weight   uint32                // of inst when it is warm
	warmth   float64               // the share of weight that inst has
	entry    registry.Registration // of inst, once there is one
	claimed  bool                  // somebody runs the life, or it ended before it began
	deadline time.Time             // the earliest one of the contexts given to Shutdown
	err      error                 // the result of the life
}

// New returns a Registrar for one server of inst.Service. What inst lacks is
// filled in: the ID with the host's name and a random part, unique per life of
// a process; the addresses when the server listens (see WithAdvertise). Life is
// always replaced by a random one.
//
// Mistakes in the arguments are reported by Serve, Run and Start, where the rest
// of the instance becomes known.
func New(reg Registry, inst registry.Instance, opts ...Option) *Registrar {
	inst = inst.Clone()
	inst.Life = rand.Text()
	named := inst.ID != ""
	if !named {
		inst.ID = uniqueID()
	}
	r := &Registrar{
		reg:   reg,
		opts:  newOptions(opts),
		gate:  newGate(inst),
		named: named,
		up:    make(chan struct{}),
		done:  make(chan struct{}),
		turn:  make(chan struct{}, 1),
		inst:  inst, weight: inst.Weight,

		hurry: make(chan struct{}, 1),
	}
	r.setWarmth(cmp.Or(r.opts.coldShare, 1))
	r.opts.logger = r.opts.logger.With("service", inst.Service, "instance", inst.ID)
	r.wanted, r.unwant = context.WithCancelCause(context.Background())
	r.alive, r.kill = context.WithCancel(context.Background())
	return r
}

// Instance returns what is, or will be, registered: Life and, without WithUniqueID,
// ID are known from New on, addresses that come from the listener once the server
// is registered.
func (r *Registrar) Instance() registry.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inst.Clone()
}

// setAddrs says whether they are others than before.
func (r *Registrar) setAddrs(addrs []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := !slices.Equal(r.inst.Addrs, addrs)
	r.inst.Addrs = addrs
	return changed
}

// State returns where in its life the server is.
func (r *Registrar) State() State { return State(r.state.Load()) }

// InHand returns how many calls the server is handling. Health checks do not
// count, nor does anything on a server without ServerOptions.
func (r *Registrar) InHand() int { return int(r.gate.inHand.Load()) }

// Refuse makes the server refuse every call from now on, with the proof that it
// was not executed, so that a client with a failover interceptor can safely go
// elsewhere. Other clients see Unavailable: to close a server without failing
// any call use Shutdown, which comes to this by itself, for calls that arrive
// too late to finish.
func (r *Registrar) Refuse() { r.gate.refuse() }

// Serve accepts connections on lis with srv and registers the server. When ctx
// ends, or Shutdown or Stop is called, it takes the server through the closing
// sequence (see the package comment) and returns nil, or ErrForced if calls had
// to be cut off. The failure of a deregistration is logged, not returned: the
// registry drops the instance when its lease expires.
//
// It returns an error when the server cannot be registered in time (see
// WithRegisterTimeout) or srv.Serve fails; calls in hand are finished first. In
// any case srv is stopped and lis is closed, unless the error is ErrStarted or
// ErrStopped: then nothing was touched. srv must have been built with
// ServerOptions and must not be serving yet; for several listeners use Start.
func (r *Registrar) Serve(ctx context.Context, srv *grpc.Server, lis net.Listener) error {
	if srv == nil || lis == nil {
		return errors.New("registrar: Serve needs a server and a listener: one of them is nil")
	}
	if err := r.claim("serve"); err != nil {
		return err
	}
	return r.finish(r.serve(ctx, srv, lis))
}

// Start registers a server that is serving already, on its own or behind a
// multiplexer, and returns when the registry has taken it (with
// WithRegisterInBackground: at once). addr is the host:port it listens on,
// usually the listener's Addr; what is advertised is chosen as in Serve. ctx
// bounds Start only.
//
// Shutdown closes the servers given here, gracefully and within the bounds. If
// none is given, that is left to the caller, after Shutdown; so it must be for a
// server that is called through ServeHTTP, where GracefulStop cuts calls off. A
// health service cannot be added to a server that is serving already: use
// WithHealthServer.
//
// When Start fails the life is over and the servers given are stopped.
func (r *Registrar) Start(ctx context.Context, addr string, servers ...*grpc.Server) error {
	for _, srv := range servers {
		if srv == nil {
			return errors.New("registrar: Start was given a server that is nil")
		}
	}
	if err := r.claim("start"); err != nil {
		return err
	}
	release := r.downWith(ctx)
	// The life outlives this call; Shutdown and Stop wait for it.
	go func() { r.finish(r.start(addr, servers)) }()
	select {
	case <-r.up:
		if release() {
			return nil
		}
		<-r.done // ctx ended at the same moment
	case <-r.done:
		release()
	}
	return r.whyNotUp(ctx)
}

// Shutdown takes the server through the closing sequence (see the package
// comment) and waits for its end. If ctx ends first, the rest is cut short as
// by Stop and ctx's error is returned as well. Under a deadline of ctx each step
// takes at most half of what is left, and the calls in hand have the rest.
// Otherwise the result is that of the life, the same for every caller: nil if no
// call was cut off.
func (r *Registrar) Shutdown(ctx context.Context) error {
	r.limit(ctx)
	r.goDown(errShutdown)
	select {
	case <-r.done:
		return r.result()
	default:
	}
	select {
	case <-r.done:
		return r.result()
	case <-ctx.Done():
		r.Stop()
		return errors.Join(ctx.Err(), r.result())
	}
}

// Stop ends everything now: it tells the registry, for which it waits at most a
// second, closes all connections, and returns when that is done. Calls in hand
// fail.
func (r *Registrar) Stop() {
	r.kill()
	r.goDown(errStop)
	<-r.done
}

// claim makes the caller the one that runs the life.
func (r *Registrar) claim(what string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.claimed:
		r.claimed = true
		return nil
	case r.wanted.Err() != nil:
		return wrap(what, ErrStopped)
	default:
		return wrap(what, ErrStarted)
	}
}

// goDown ends what was wanted, for the first reason given.
func (r *Registrar) goDown(why error) {
	r.unwant(why)
	r.mu.Lock()
	unborn := !r.claimed
	r.claimed = true
	r.mu.Unlock()
	if unborn {
		r.finish(nil)
	}
}

// downWith makes the end of ctx the end of what was wanted, until it is released.
func (r *Registrar) downWith(ctx context.Context) (release func() bool) {
	if ctx.Err() != nil {
		r.goDown(context.Cause(ctx)) // now, not in a moment as AfterFunc would
	}
	return context.AfterFunc(ctx, func() { r.goDown(context.Cause(ctx)) })
}

// finish is the end of the life; its one caller is who claimed it.
func (r *Registrar) finish(err error) error {
	r.unwant(errEnded)
	r.kill()
	r.enter(StateStopped)
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	close(r.done)
	return err
}

func (r *Registrar) result() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// whyNotUp is why the life ended before Start had succeeded.
func (r *Registrar) whyNotUp(ctx context.Context) error {
	switch err := r.result(); {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return wrap("start", ctx.Err())
	default:
		return wrap("start", ErrStopped)
	}
}

// limit notes by when Shutdown has to have ended.
func (r *Registrar) limit(ctx context.Context) {
	deadline, ok := ctx.Deadline()
	r.mu.Lock()
	defer r.mu.Unlock()
	if ok && (r.deadline.IsZero() || deadline.Before(r.deadline)) {
		r.deadline = deadline
		select {
		case r.hurry <- struct{}{}:
		default:
		}
	}
}

// remaining returns how much time is left before Shutdown has to have ended.
func (r *Registrar) remaining() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deadline.IsZero() {
		return math.MaxInt64
	}
	return max(0, time.Until(r.deadline))
}
