package registrar

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/registry"
)

// minPing is how often a client may ping. Clients should not ping more often
// than every 10 seconds, gRPC's own lower limit; half of that forgives jitter,
// where gRPC's default of 5 minutes would answer with "too many pings".
const minPing = 5 * time.Second

// healthPrefix begins the full name of every method of gRPC's health service.
const healthPrefix = "/grpc.health.v1.Health/"

// ServerOptions are what the grpc.Server must be built with: interceptors that
// set the closing marks, refuse what comes too late, count the calls in hand and
// keep attempts from multiplying along a chain of services (see drain.NoRetry),
// and a keepalive policy under which clients may ping every 10 seconds, also
// without calls. They go together with any other options. Put them first: then a
// call is counted, marked and refused before anything else sees it.
//
// A Registrar whose ServerOptions was never called refuses to serve (see
// WithForeignServer). That gRPC gives no way to look into a server means that it
// is not noticed when they were handed to another server than the one served.
func (r *Registrar) ServerOptions() []grpc.ServerOption {
	r.optioned.Store(true)
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(r.unary),
		grpc.ChainStreamInterceptor(r.stream),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
	}
}

type drainingKey struct{}

// Draining returns a channel that is closed when the server that handles the
// call of ctx begins to drain. A handler of a long stream should then end it
// politely; its client learns of the drain when the connection closes for new
// calls. Nil, which is never ready, if ctx is not that of such a call.
func Draining(ctx context.Context) <-chan struct{} {
	ch, _ := ctx.Value(drainingKey{}).(<-chan struct{})
	return ch
}

func (r *Registrar) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if strings.HasPrefix(info.FullMethod, healthPrefix) {
		r.gate.identify(ctx)
		return handler(ctx, req)
	}
	if !r.gate.enter() {
		return nil, r.gate.turnAway(ctx)
	}
	defer r.gate.leave(ctx)
	handled, hop := drain.NewHop(context.WithValue(ctx, drainingKey{}, r.wanted.Done()))
	resp, err := handler(handled, req)
	discourage(ctx, hop, err)
	return resp, err
}

// discourage tells the caller of a call that has failed with err not to try again
// where the handler's own calls have been tried again.
func discourage(ctx context.Context, hop *drain.Hop, err error) {
	if err != nil && hop.GaveUp() {
		_ = grpc.SetTrailer(ctx, drain.NoRetry()) // as in leave
	}
}

func (r *Registrar) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if strings.HasPrefix(info.FullMethod, healthPrefix) {
		return handler(srv, ss)
	}
	ctx := ss.Context()
	if !r.gate.enter() {
		return r.gate.turnAway(ctx)
	}
	defer r.gate.leave(ctx)
	handled, hop := drain.NewHop(context.WithValue(ctx, drainingKey{}, r.wanted.Done()))
	err := handler(srv, &stream{ss, handled})
	discourage(ctx, hop, err)
	return err
}

// stream is a stream with another context.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *stream) Context() context.Context { return s.ctx }

// What the gate does with calls.
const (
	open     = iota
	marking  // they are served, and the answers say that the server closes
	refusing // new ones are refused
)

// gate is what every call goes through.
type gate struct {
	inHand atomic.Int64
	phase  atomic.Int32 // only ever rises

	marks atomic.Pointer[marks]
}

// marks are what the gate answers in the name of one instance.
type marks struct {
	answered metadata.MD // trailer of a handler's answer while marking
	refused  metadata.MD // trailer of a refused call
	refusal  error
	identity string // the answer to a probe
}

func newGate(inst registry.Instance) *gate {
	g := &gate{}
	g.name(inst)
	return g
}

// name says in whose name the gate answers.
func (g *gate) name(inst registry.Instance) {
	g.marks.Store(&marks{
		answered: drain.Answered(inst.ID, inst.Life),
		refused:  drain.NotExecuted(inst.ID, inst.Life),
		refusal:  drain.Refusal(inst.Service, inst.ID, inst.Life),
		identity: identity(inst),
	})
}

func (g *gate) mark()   { g.phase.CompareAndSwap(open, marking) }
func (g *gate) refuse() { g.phase.Store(refusing) }

// enter says whether the call may run; then leave must follow.
func (g *gate) enter() bool {
	g.inHand.Add(1)
	if g.phase.Load() == refusing {
		g.inHand.Add(-1)
		return false
	}
	return true
}

// leave follows the handler, also one that panicked, for another interceptor may
// recover that and answer. gRPC's own stream is asked to set the trailer rather
// than wrapped, because functions like grpc.SetSendCompressor need to find it.
func (g *gate) leave(ctx context.Context) {
	if g.phase.Load() != open {
		// It fails only after the caller has gone.
		_ = grpc.SetTrailer(ctx, g.marks.Load().answered)
	}
	g.inHand.Add(-1)
}

// turnAway refuses the call of ctx.
func (g *gate) turnAway(ctx context.Context) error {
	marks := g.marks.Load()
	_ = grpc.SetTrailer(ctx, marks.refused) // as in leave
	return marks.refusal
}
