package registrar

import (
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/rollcall-go/rollcall/registry"
)

// The defaults. The last three together are the longest that a shutdown takes:
// 25 seconds, which is inside the 30 that Kubernetes and most supervisors give.
const (
	defaultRegisterTimeout   = 10 * time.Second
	defaultDeregisterTimeout = 3 * time.Second  // a few tries at several registry nodes
	defaultDrainDelay        = 7 * time.Second  // clients poll every 5 seconds, give or take, and a poll takes its time
	defaultGraceTimeout      = 15 * time.Second // longer than the usual deadline of a call
)

type options struct {
	advertise         string
	registerTimeout   time.Duration
	deregisterTimeout time.Duration
	drainDelay        time.Duration
	graceTimeout      time.Duration
	slowStart         time.Duration
	coldShare         float64   // of the weight at the start; 0 without a slow start
	probe             ProbeMode // 0: ProbeWarn on sockets
	probeDial         []grpc.DialOption
	uniqueID          bool
	background        bool
	foreign           bool
	noHealth          bool
	health            *health.Server
	onState           func(State)
	onEvent           func(registry.Event)
	logger            *slog.Logger
}

// Option changes a default of New.
type Option func(*options)

func newOptions(opts []Option) options {
	o := options{
		registerTimeout:   defaultRegisterTimeout,
		deregisterTimeout: defaultDeregisterTimeout,
		drainDelay:        defaultDrainDelay,
		graceTimeout:      defaultGraceTimeout,
		onState:           func(State) {},
		onEvent:           func(registry.Event) {},
		logger:            slog.New(slog.DiscardHandler),
	}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// validate says whether the durations make sense.
func (o options) validate() error {
	for _, d := range []struct {
		option  string
		value   time.Duration
		atLeast time.Duration
	}{
		{"WithRegisterTimeout", o.registerTimeout, 1},
		{"WithDeregisterTimeout", o.deregisterTimeout, 1},
		{"WithDrainDelay", o.drainDelay, 0},
		{"WithGraceTimeout", o.graceTimeout, 0},
	} {
		if d.value < d.atLeast {
			return fmt.Errorf("%s(%v): the duration must be at least %v", d.option, d.value, d.atLeast)
		}
	}
	if o.slowStart != 0 || o.coldShare != 0 {
		if o.slowStart < minSlowStart || !(o.coldShare > 0 && o.coldShare < 1) {
			return fmt.Errorf("WithSlowStart(%v, %v): the duration must be at least %v and the share between 0 and 1", o.slowStart, o.coldShare, minSlowStart)
		}
	}
	return nil
}

// WithAdvertise sets the address that clients dial: a host and a port, or a host
// alone to go with the listener's port. Several addresses, which stand for the
// same server, are given in Instance.Addrs.
//
// The first of these that says something decides: this option; Instance.Addrs;
// the environment variable ROLLCALL_ADVERTISE, in the same form; the listener's
// address; and for a listener on all interfaces the local address of the route
// to the registry, if the registry can tell (see Registry).
func WithAdvertise(addr string) Option { return func(o *options) { o.advertise = addr } }

// WithRegisterTimeout bounds how long the registry is tried before Serve, Run or
// Start gives up, stops the server and returns the error. Default 10 seconds.
func WithRegisterTimeout(d time.Duration) Option { return func(o *options) { o.registerTimeout = d } }

// WithRegisterInBackground serves while the registry cannot be reached and goes
// on trying, for ever, with backoff; only an error that cannot go away ends it:
// ErrInvalid, ErrDuplicate and ErrClosed of package registry. The health service
// then says SERVING from the start, because clients that know the address from
// before may use it. Default: off, Serve fails after the register timeout.
func WithRegisterInBackground() Option { return func(o *options) { o.background = true } }

// WithDeregisterTimeout bounds how long a shutdown waits for the registry to
// take the instance out. Default 3 seconds.
func WithDeregisterTimeout(d time.Duration) Option {
	return func(o *options) { o.deregisterTimeout = d }
}

// WithDrainDelay is how long the server serves on, as before, after it has left
// the registry, so that clients learn of it before the listener closes. It
// should be longer than the interval at which clients poll; it may be 0. It ends
// early when no client has been connected for 2 seconds, which only Serve and Run
// can see, and only for connections that can tell their state to the program, as
// those of TCP and Unix listeners do and those of tls.Listener do not. Default 7
// seconds.
func WithDrainDelay(d time.Duration) Option { return func(o *options) { o.drainDelay = d } }

// WithGraceTimeout bounds how long the calls in hand may take to finish after
// the drain delay; then they are cut off. With 0 they are not waited for.
// Default 15 seconds.
func WithGraceTimeout(d time.Duration) Option { return func(o *options) { o.graceTimeout = d } }

// WithSlowStart lets the weight grow from a share of Instance.Weight to all of it
// within d after the server was registered, in up to ten steps, while caches fill
// and connections are made. Weights are whole numbers: those of the service have
// to leave room for the share, as 100 does for 0.1; one that does not, such as
// the default of 1 for 0.1, is an error. Clients that do not balance by weight send a
// cold server as many calls as any. d is at least 1 second. Default: off.
func WithSlowStart(d time.Duration, from float64) Option {
	return func(o *options) { o.slowStart, o.coldShare = d, from }
}

// WithSelfProbe sets what is done about addresses that do not lead to this
// process: because of NAT, a container's own network, the wrong interface, or
// another server in its place. The server dials what it advertises and asks, with
// a health check, who answers. With ProbeRequire a wrong answer, or none, counts
// as a registration that failed: it is tried again until the register timeout.
// It takes a health service on the server, and ServerOptions before interceptors
// that reject unknown callers.
//
// opts are added to those of the probe. The probe trusts any certificate if
// Instance.TLS is set and speaks plaintext if not; a server that wants client
// certificates can be probed with grpc.WithTransportCredentials only.
//
// Default: ProbeWarn in Serve and Run for a *net.TCPListener, else ProbeOff.
func WithSelfProbe(mode ProbeMode, opts ...grpc.DialOption) Option {
	return func(o *options) { o.probe, o.probeDial = mode, opts }
}

// WithUniqueID lets the server take another ID, made of the one given to New and a
// random part, when a live process is registered under that one. Default: then the
// registration fails with ErrIDTaken, and is tried again until the register
// timeout, lest the later process replace the earlier.
//
// Alive is what answers a probe (see WithSelfProbe) at its registered address. Who
// does not, like a process that was killed, is replaced; with a warning in the log
// if somebody answers there who cannot be told. An ID that was not given to New is
// unique and not looked for. A process that finds out later that another has taken its
// ID, because the registry could not show them to each other before, is told by the
// event registry.Collision, which is logged as an error; with this option it then
// registers anew, under an ID of its own.
func WithUniqueID() Option { return func(o *options) { o.uniqueID = true } }

// WithHealthServer is the health service whose status to set, for the program
// that has its own: NOT_SERVING until the server is registered, then SERVING,
// and NOT_SERVING for good as soon as it drains; for the server as a whole (""),
// for Instance.Service and for every gRPC service of the server. Serve adds it
// to the server if that has no health service. nil means that health is not the
// registrar's business.
//
// Default: Serve adds a health service unless the server has one, which it then
// leaves alone; Start does nothing.
func WithHealthServer(h *health.Server) Option {
	return func(o *options) { o.health, o.noHealth = h, h == nil }
}

// WithForeignServer allows a server that was built without ServerOptions. Its
// answers then carry no marks, no call can be refused with proof, Draining and
// InHand know nothing, and a shutdown that ends at its bound is ErrForced even
// if no call was in hand, since nobody counts them.
func WithForeignServer() Option { return func(o *options) { o.foreign = true } }

// WithStateObserver sets a function that is called at each change of the state,
// one call at a time and in order. The life waits for it: it must return soon.
func WithStateObserver(f func(State)) Option {
	return func(o *options) {
		if f != nil {
			o.onState = f
		}
	}
}

// WithEventObserver sets a function that is called with each event of the
// registration, one call at a time. It must return soon.
func WithEventObserver(f func(registry.Event)) Option {
	return func(o *options) {
		if f != nil {
			o.onEvent = f
		}
	}
}

// WithLogger sets where changes are logged. Default: nowhere.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.logger = l
		}
	}
}
