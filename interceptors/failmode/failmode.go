// Package failmode makes a call try again when an attempt fails, where that can
// be right: on another instance (Failover), on the same one (Failretry), or not
// at all (Failfast). There are modes for more special wishes as well.
//
//	conn, err := grpc.NewClient("discovery:///greeter",
//		grpc.WithResolvers(resolver.NewBuilder(reg)),
//		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.RoundRobin{})),
//		grpc.WithChainUnaryInterceptor(failmode.UnaryClientInterceptor(failmode.Failover)),
//		grpc.WithChainStreamInterceptor(failmode.StreamClientInterceptor(failmode.Failover)))
//
// It can be switched on for a whole ClientConn, payments included. An attempt is
// judged by what the balancer saw of it (pick.Class), not by the status code
// alone: a method that has not promised to bear it is tried again only when the
// call has certainly not executed. RULES.md in this directory has the rules as a
// table.
//
// # Which methods may run again
//
// Those whose proto says `option idempotency_level = NO_SIDE_EFFECTS` or
// `IDEMPOTENT` (see WithDescriptors), those that WithIdempotent names, and calls
// made with Idempotent(true). Every other method is unsafe.
//
// # What it needs
//
// The rollcall policy. With another one nothing is known about an attempt: its
// class is "untracked", and unsafe methods are not tried again at all. Nor is
// anything known where an interceptor below returns an error of its own; one that
// wraps gRPC's error, text included, does no harm.
//
// Where something else retries too (gRPC's own retryPolicy or another library's
// interceptor), attempts do not multiply: all layers together make at most
// WithMaxAttempts of those that may execute, all at instances that the call has
// not tried, and WithLogger is told of it. An interceptor that retries above this
// one needs interceptors/track above itself for that.
//
// Use one interceptor value per ClientConn: its calls share retry budgets, see
// WithBudget. For other settings per method use WithMode and the other
// CallOptions, or go-grpc-middleware's selector.
//
// # Streams
//
// Opening a stream fails over like a unary call. A stream with one request
// message is tried again until its first message has arrived, or Header or
// Context was used; the request message must not be changed before that. Client
// and bidirectional streams are tried again only while they are being opened.
//
// What grpc.Header, grpc.Trailer and grpc.Peer deliver is the last attempt's.
// grpc.OnFinish is called for each attempt.
package failmode

import (
	"fmt"
	"strings"
)

// Mode is what a call does when an attempt fails.
type Mode uint8

const (
	// Failfast makes one attempt. Its error says so where the call may have
	// executed and the method does not promise to bear it twice. gRPC's transparent
	// retries avoid the instance they come from.
	Failfast Mode = iota
	// Failretry stays on the instance that was picked first, and gives up when
	// that instance is gone.
	Failretry
	// Failover goes to an instance that the call has not tried, as long as there
	// is one.
	Failover
	// Failsafe makes one attempt, as Failfast does. When the call fails, its error is
	// logged (WithLogger) and the caller is told of none: the reply is empty. It is
	// for what may as well be lost. A stream's errors are not hidden.
	Failsafe
	// Forking makes all attempts (WithMaxAttempts) of a call that may execute more
	// than once beside each other, a millisecond apart, at instances that differ. The
	// first answer counts and the others are cancelled. That multiplies the load, in
	// good times too, and WithBudget does not bound it. Other calls, streams, and calls
	// whose reply is not a proto.Message, are as in Failover.
	Forking
	// Broadcast makes a unary call at every instance that the client knows of: first
	// at one that the balancer chooses, then at all others at once, at each as
	// Failretry does. The call succeeds if it does everywhere, with the first
	// instance's reply. Its error is that of errors.Join, with one for each instance
	// that has not answered well. Methods that may not execute more than once, and
	// streams, are refused. For the balancer and for interceptors/track, what is made
	// at each instance is a call of its own.
	Broadcast
)

var modeNames = [...]string{
	Failfast: "failfast", Failretry: "failretry", Failover: "failover", Failsafe: "failsafe", Forking: "forking", Broadcast: "broadcast",
}

// String returns the name that ParseMode takes.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// ParseMode returns the mode of this name. Its error lists the known ones.
func ParseMode(name string) (Mode, error) {
	for mode, known := range modeNames {
		if name == known {
			return Mode(mode), nil
		}
	}
	return Failfast, fmt.Errorf("failmode: unknown mode %q: known are %s", name, strings.Join(modeNames[:], ", "))
}
