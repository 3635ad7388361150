package failmode

import (
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
	"github.com/rollcall-go/rollcall/internal/backoff"
)

// The defaults, as constants so that they stand in one place.
const (
	defaultAttempts = 3 // the usual: the first one and two more

	// The backoff is gRPC's own idea of a retry, started sooner since the next
	// attempt goes elsewhere.
	defaultBackoff    = 50 * time.Millisecond
	defaultMaxBackoff = time.Second

	// The budget is the usual one. A window of it lets the calls in hand move when
	// one of a few instances dies; in an outage it keeps the load near the calls.
	defaultBudgetRatio     = 0.2
	defaultBudgetPerSecond = 10.0
)

// Option sets up an interceptor.
type Option interface{ apply(*config) }

// CallOption is an Option that also works on a single call, as a
// grpc.CallOption, for which it then replaces the interceptor's setting.
type CallOption struct {
	grpc.EmptyCallOption
	set func(*config)
}

func (o CallOption) apply(c *config) {
	if o.set != nil {
		o.set(c)
	}
}

type interceptorOption func(*config)

func (o interceptorOption) apply(c *config) { o(c) }

// WithMode sets another mode than the interceptor's: for one call, or to build
// an interceptor from a list of options.
func WithMode(mode Mode) CallOption {
	return CallOption{set: func(c *config) { c.mode = mode }}
}

// WithMaxAttempts sets how many attempts a call may make in all; the default is
// 3, and less than 1 means 1. Failfast makes one in any case.
func WithMaxAttempts(n int) CallOption {
	return CallOption{set: func(c *config) { c.attempts = n }}
}

// WithBackoff sets the waits between attempts: base before the second, then
// twice as long each time, never longer than longest, and of that a random 50 to
// 100 %. The defaults are 50 ms and 1 s; 0 and 0 make no waits.
//
// Failover makes its second attempt at once, since it goes elsewhere. When no
// instance was ready, the next attempt takes the first that becomes ready and
// waits for it as long as the backoff would have taken, or not at all without
// one. In Failretry, an instance that is connecting is waited for as long as the
// longest wait, or 1 s if there are no waits.
func WithBackoff(base, longest time.Duration) CallOption {
	return CallOption{set: func(c *config) {
		c.backoff = backoff.Policy{Base: max(base, 0), Max: max(longest, 0)}
	}}
}

// WithPerAttemptTimeout gives every attempt a deadline of its own, at most the
// caller's; 0, the default, none. A unary attempt that runs out of it may be
// followed by another one, by the same rules as after Unavailable. For a stream
// with one request it bounds the time until its first message, for other streams
// the opening.
//
// Without it the first attempt may use all of the caller's deadline. An attempt
// after it that may be followed by another one gets its share of what is left,
// and not less than nine of ten attempts of the method have taken recently.
func WithPerAttemptTimeout(d time.Duration) CallOption {
	return CallOption{set: func(c *config) { c.timeout = d }}
}

// WithRetryableCodes adds codes after which a method that may execute more than once
// is tried again if a server has answered it with them, as after Unavailable; OK and
// Canceled are none. The default is no other code. What gRPC says itself has codes
// too: an oversized reply is ResourceExhausted.
func WithRetryableCodes(list ...codes.Code) CallOption {
	return CallOption{set: func(c *config) {
		c.codes = 0
		for _, code := range list {
			if code != codes.OK && code != codes.Canceled {
				c.codes.Add(code)
			}
		}
	}}
}

// WithHedging makes an attempt that has no answer after delay have another one
// beside it, at an instance that the call has not tried. The first answer counts
// and the other attempt is cancelled. It is for Failover and for unary methods
// that may execute more than once; others are not hedged, nor is a call whose
// reply is not a proto.Message, or while no other instance is ready. A hedge is
// one of the call's attempts (WithMaxAttempts) and out of the budget (WithBudget).
// Less than 1 ms counts as 1 ms; less than 0, the default, makes no hedges.
func WithHedging(delay time.Duration) CallOption {
	return CallOption{set: func(c *config) {
		c.hedging = nil
		if delay >= 0 {
			c.hedging = &attempt.Hedging{Delay: delay}
		}
	}}
}

// WithHedgingQuantile is WithHedging with a delay that follows the method's
// latency: what this share of its attempts, such as 0.95, has taken at most in
// the last 10 to 20 seconds. Until 20 are known there is no hedge. A share that
// is not between 0 and 1 makes none.
func WithHedgingQuantile(share float64) CallOption {
	return CallOption{set: func(c *config) {
		c.hedging = nil
		if share > 0 && share < 1 {
			c.hedging = &attempt.Hedging{Quantile: share}
		}
	}}
}

// Idempotent says for a single call whether it may execute more than once,
// whatever is known about its method.
func Idempotent(may bool) CallOption {
	return CallOption{set: func(c *config) { c.idempotent = func(string) bool { return may } }}
}

// WithObserver has f told of every attempt when it has ended, in the goroutine
// of the call; nil tells nobody. A stream that the caller abandons is not told of.
func WithObserver(f func(AttemptEvent)) CallOption {
	return CallOption{set: func(c *config) {
		c.observe = nil
		if f != nil {
			c.observe = func(e attempt.Event) { f(AttemptEvent(e)) }
		}
	}}
}

// WithIdempotent says that these methods may execute more than once: full
// names, like "/shop.Orders/Cancel", or the beginnings of such followed by a
// star, like "/shop.Orders/*".
func WithIdempotent(methods ...string) Option {
	return interceptorOption(func(c *config) { c.methods.declare(methods) })
}

// WithDescriptors says where to look for a method's idempotency_level; the
// default is protoregistry.GlobalFiles, which has all generated code of the
// program. With nil nothing is looked up.
func WithDescriptors(d Descriptors) Option {
	return interceptorOption(func(c *config) { c.methods.descriptors = d })
}

// WithBudget bounds the extra attempts of all calls of a gRPC service through the
// interceptor to ratio times the calls, counted over the last three seconds, plus
// perSecond. A call that finds the budget empty returns its error at once and says
// so. The defaults are 0.2 and 10: 20 % of the calls, and 10 a second however few
// calls there are. math.Inf(1) lifts the bound. Given to several interceptors, such
// as those for unary calls and for streams of a ClientConn, the same Option is one
// budget of them all.
func WithBudget(ratio, perSecond float64) Option {
	budgets := attempt.NewBudgets(ratio, perSecond)
	return interceptorOption(func(c *config) { c.budgets = budgets })
}

// WithLogger sets where the interceptor says, once, that something else retries as
// well. The default, and nil, is nowhere.
func WithLogger(l *slog.Logger) Option {
	return interceptorOption(func(c *config) { c.logger = l })
}
