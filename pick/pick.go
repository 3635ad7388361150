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
)

var classNames = [...]string{"never_picked", "not_sent", "sent_no_answer", "answered", "refused"}

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
	unused bool
}

// Record is shared by all attempts of one call. It is safe for concurrent use.
// A nil *Record is valid: it has no hints and forgets what it is told.
type Record struct {
	mu       sync.Mutex // guards all below; nothing is called under it
	attempts []Attempt
	first    [3]Attempt // where attempts starts, so that most calls allocate once
	avoid    []string
	pin      string
}

type contextKey struct{}

// NewContext returns ctx with the call's record: the one that ctx already has,
// or a new one.
func NewContext(ctx context.Context) (context.Context, *Record) {
	if r := FromContext(ctx); r != nil {
		return ctx, r
	}
	r := new(Record)
	r.attempts = r.first[:0]
	return context.WithValue(ctx, contextKey{}, r), r
}

// FromContext returns the call's record, or nil.
func FromContext(ctx context.Context) *Record {
	r, _ := ctx.Value(contextKey{}).(*Record)
	return r
}

// Avoid asks the balancer not to pick the instance for this call as long as
// another one is ready. Instances that the call has already tried are avoided
// without being named.
func (r *Record) Avoid(id string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.avoid = append(r.avoid, id)
}

// Pin orders the balancer to pick this instance and no other for the attempts
// that follow; an empty id takes the order back.
func (r *Record) Pin(id string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pin = id
}

// Pinned returns the instance that must be picked, if any.
func (r *Record) Pinned() (id string, ok bool) {
	if r == nil {
		return "", false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pin, r.pin != ""
}

// Avoids says whether the instance was already tried by this call or is to be
// avoided for another reason.
func (r *Record) Avoids(id string) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.avoid, id) ||
		slices.ContainsFunc(r.attempts, func(a Attempt) bool { return a.Target.ID == id })
}

// AvoidsAny says whether Avoids can be true for any instance.
func (r *Record) AvoidsAny() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.avoid) > 0 || len(r.attempts) > 0
}

// Begin notes that target was picked for an attempt, and returns the attempt's
// number for End or Unused. The balancer calls it.
func (r *Record) Begin(target Target) (n int) {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, Attempt{Target: target, Class: Unanswered})
	return len(r.attempts) - 1
}

// End notes how attempt n ended. The balancer calls it.
func (r *Record) End(n int, class Class, err error) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &r.attempts[n]
	a.Class, a.Err, a.Ended = class, err, true
}

// Unused notes that gRPC did not use pick n, because the connection was lost in
// that moment, and picks again. It is no attempt and not listed as one, but its
// instance is avoided. The balancer calls it.
func (r *Record) Unused(n int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts[n].unused = true
}

// Attempts returns a copy of the attempts so far, in the order of their picks.
func (r *Record) Attempts() []Attempt {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.attempts), func(a Attempt) bool { return a.unused })
}
