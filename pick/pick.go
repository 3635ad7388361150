// Package pick is where an interceptor and the balancer meet over one call: a
// record in the call's context that carries hints to the balancer (which
// instances to avoid, which one to use) and brings back who was picked for
// every attempt and how that ended.
//
// The record sees every attempt whoever makes it: rollcall's failmode, gRPC's
// own retryPolicy and transparent retries, another library's retry interceptor.
// It has to be in the caller's context above whatever retries; failmode puts it
// there, and for other retry layers interceptors/track does.
package pick

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Class says what is certain about the execution of an attempt.
type Class uint8

// The classes, from the one that certainly did not reach a handler.
const (
	// NeverPicked: no instance was chosen, so nothing was sent anywhere.
	NeverPicked Class = iota
	// NotSent: an instance was chosen, but no stream to it came about.
	NotSent
	// Unanswered: sent, and nothing came back. It may have executed.
	Unanswered
	// Answered: the server answered; the status is the handler's own.
	Answered
	// Refused: a closing server proved that it did not execute the call.
	Refused
	// Untracked: no balancer said anything about this error, because another
	// policy than rollcall is in use or an interceptor answered. It may have
	// executed.
	Untracked
)

var classNames = [...]string{"never_picked", "not_sent", "sent_no_answer", "answered", "refused", "untracked"}

// String returns the name used in errors, logs and counters.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return strconv.Itoa(int(c))
}

// NotExecuted says whether an attempt of this class has certainly not run any
// handler, so that trying again cannot run it twice.
func (c Class) NotExecuted() bool { return c == NeverPicked || c == NotSent || c == Refused }

// Target is the instance that was picked for an attempt.
type Target struct {
	ID   string // the instance's ID; its address where the resolver gave no instance
	Life string // which process under that ID, if known
	Addr string // host:port
}

// Attempt is one attempt of the call, as the balancer saw it.
type Attempt struct {
	Target Target
	Class  Class
	Err    error // nil when it succeeded, and while it is in flight
	Ended  bool  // false while it is in flight
	Advice Advice
	unused bool
	fork   int
}

// Advice is what the server that answered an attempt said about another one.
type Advice struct {
	Never bool          // do not try again
	Wait  time.Duration // if more than 0, try again after this and not before
}

// Record is shared by all attempts of one call. It is safe for concurrent use.
// A nil *Record is valid: it has no hints and forgets what it is told.
type Record struct {
	method string      // never changed; "" if any
	call   *Record     // never changed; the call's, itself unless made by Fork
	fork   int         // never changed; 0 unless made by Fork
	unary  atomic.Bool // of call only

	mu        sync.Mutex // call.mu guards all below; nothing is called under it
	notPicked int        // picks that led to no attempt
	lastError error      // of the last of them; nil if it is not known

	// All below is used in call only.
	attempts []Attempt
	first    [3]Attempt // where attempts starts, so that most calls allocate once
	avoid    []string
	pin      string
	forks    int
	limit    int // 0 for none
}

type contextKey struct{}

// NewContext returns ctx with the record of one call of any method: the record
// that ctx already has, or a new one.
func NewContext(ctx context.Context) (context.Context, *Record) {
	if r := FromContext(ctx); r != nil {
		return ctx, r
	}
	return with(ctx, "")
}

// NewCall is NewContext for one call of this full method. A record of another
// method is left alone: it is the one of an outer call, and this call is made
// on its way (an interceptor that fetches a token, say).
func NewCall(ctx context.Context, method string) (context.Context, *Record) {
	if r := FromContext(ctx).For(method); r != nil {
		return ctx, r
	}
	return with(ctx, method)
}

func with(ctx context.Context, method string) (context.Context, *Record) {
	r := &Record{method: method}
	r.call = r
	r.attempts = r.first[:0]
	return context.WithValue(ctx, contextKey{}, r), r
}

// Fork returns ctx with a record for an attempt that is made beside another one.
// It is the same call's, but Mark and Since see what is picked under this context
// only, and the balancer picks no instance that the call has tried.
func (r *Record) Fork(ctx context.Context) (context.Context, *Record) {
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.call.forks++
	f := &Record{method: r.method, call: r.call, fork: r.call.forks}
	return context.WithValue(ctx, contextKey{}, f), f
}

// Elsewhere says whether no instance may be picked that the call has tried: it is
// an order, where Avoids is a wish.
func (r *Record) Elsewhere() bool { return r != nil && r.fork > 0 }

// FromContext returns the call's record, or nil.
func FromContext(ctx context.Context) *Record {
	r, _ := ctx.Value(contextKey{}).(*Record)
	return r
}

// For returns r if it is the record of a call of this full method, and nil if
// it is another call's. The balancer takes no other record than this one.
func (r *Record) For(method string) *Record {
	if r == nil || r.method != "" && r.method != method {
		return nil
	}
	return r
}

// SetUnary says that the call is unary. Interceptors of unary calls say so.
func (r *Record) SetUnary() {
	if r != nil && !r.call.unary.Load() {
		r.call.unary.Store(true)
	}
}

// Unary says whether the call is known to be unary: false is a stream, or a record
// of which no interceptor has said so. It takes no lock.
func (r *Record) Unary() bool { return r != nil && r.call.unary.Load() }

// Avoid asks the balancer not to pick the instance for this call as long as
// another one is ready. Instances that the call has already tried are avoided
// without being named.
func (r *Record) Avoid(id string) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.call.avoid = append(r.call.avoid, id)
}

// Pin orders the balancer to pick this instance and no other for the attempts
// that follow; an empty id takes the order back.
func (r *Record) Pin(id string) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.call.pin = id
}

// Pinned returns the instance that must be picked, if any.
func (r *Record) Pinned() (id string, ok bool) {
	if r == nil {
		return "", false
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	return r.call.pin, r.call.pin != ""
}

// Avoids says whether the instance was already tried by this call or is to be
// avoided for another reason.
func (r *Record) Avoids(id string) bool {
	if r == nil {
		return false
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	return slices.Contains(r.call.avoid, id) ||
		slices.ContainsFunc(r.call.attempts, func(a Attempt) bool { return a.Target.ID == id })
}

// AvoidsAny says whether Avoids can be true for any instance.
func (r *Record) AvoidsAny() bool {
	if r == nil {
		return false
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	return len(r.call.avoid) > 0 || len(r.call.attempts) > 0
}

// Begin notes that target was picked for an attempt, and returns the attempt's
// number for End or Unused. The balancer calls it.
func (r *Record) Begin(target Target) (n int) {
	if r == nil {
		return 0
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.call.attempts = append(r.call.attempts, Attempt{Target: target, Class: Unanswered, fork: r.fork})
	return len(r.call.attempts) - 1
}

// End notes how attempt n ended. The balancer calls it.
func (r *Record) End(n int, class Class, err error) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	a := &r.call.attempts[n]
	a.Class, a.Err, a.Ended = class, err, true
}

// Advise notes what the server of attempt n said about another one. The balancer
// calls it.
func (r *Record) Advise(n int, advice Advice) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.call.attempts[n].Advice = advice
}

// Unused notes that gRPC did not use pick n, because the connection was lost in
// that moment, and picks again. It is no attempt and not listed as one, but its
// instance is avoided. The balancer calls it.
func (r *Record) Unused(n int) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.call.attempts[n].unused = true
	r.notPicked++
	r.lastError = nil
}

// NotPicked notes that the balancer was asked and picked nobody, for whatever
// reason, and what its Pick returned: err, which may wrap that and say more. It is
// what proves the class NeverPicked: a record that nobody touched proves nothing,
// since policies other than rollcall touch none. The balancer calls it whenever
// its Pick returns an error.
func (r *Record) NotPicked(err error) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.notPicked++
	r.lastError = err
}

// NotPickedError returns the error of the last pick that led to no attempt: what
// NotPicked was told, or nil where that was Unused or nothing.
func (r *Record) NotPickedError() error {
	if r == nil {
		return nil
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	return r.lastError
}

// Attempts returns a copy of the attempts so far, in the order of their picks.
func (r *Record) Attempts() []Attempt {
	if r == nil {
		return nil
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	return listed(r.call.attempts)
}

// Mark is a place in the record.
type Mark struct{ attempts, notPicked int }

// Mark returns the place where the record is now, for Since.
func (r *Record) Mark() Mark {
	if r == nil {
		return Mark{}
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	return Mark{len(r.call.attempts), r.notPicked}
}

// Since returns the attempts after m, as Attempts does, and what is certain
// about all of them together: the class of the last one, unless an earlier one
// may have executed and the last one has not. That is what an interceptor wants
// to know of one Invoke, in which gRPC may have made several attempts.
func (r *Record) Since(m Mark) ([]Attempt, Class) {
	if r == nil {
		return nil, Untracked
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	attempts := slices.DeleteFunc(listed(r.call.attempts[m.attempts:]), func(a Attempt) bool { return a.fork != r.fork })
	switch {
	case len(attempts) > 0:
		return attempts, together(attempts)
	case r.notPicked > m.notPicked:
		return nil, NeverPicked
	default:
		return nil, Untracked
	}
}

// together is the class of several attempts taken as one.
func together(attempts []Attempt) (class Class) {
	for _, a := range attempts {
		if class.NotExecuted() || !a.Class.NotExecuted() {
			class = a.Class
		}
	}
	return class
}

// listed returns a copy of those attempts that were attempts.
func listed(attempts []Attempt) []Attempt {
	return slices.DeleteFunc(slices.Clone(attempts), func(a Attempt) bool { return a.unused })
}
