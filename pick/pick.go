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
	"sync"
	"sync/atomic"
)

// Record is shared by all attempts of one call. It is safe for concurrent use.
// A nil *Record is valid: it has no hints and forgets what it is told.
type Record struct {
	method string  // never changed; "" if any
	call   *Record // never changed; the call's, itself unless made by Fork
	fork   int32   // never changed; 0 unless made by Fork

	// Of call only.
	limit   atomic.Int32 // of attempts; 0 for none
	unary   atomic.Bool
	asked   atomic.Bool // whether instances are asked for
	touched atomic.Bool // false as long as there is nothing that a balancer looks for

	mu        sync.Mutex // call.mu guards all below; nothing is called under it
	notPicked int        // picks that led to no attempt
	lastError error      // of the last of them; nil if it is not known

	// All below is used in call only.
	attempts []Attempt
	first    [1]Attempt // where attempts starts, so that most calls allocate once
	avoid    []string
	pin      string
	forks    int32

	instances []string // nil if not told
}

// untouched says that there is nothing in r yet that a balancer would look for.
// Most calls make one attempt and have no hints, and need no lock to learn that.
func (r *Record) untouched() bool { return r == nil || !r.call.touched.Load() }

// touch comes before r gets something that a balancer looks for. call.mu is held.
func (r *Record) touch() {
	if !r.call.touched.Load() {
		r.call.touched.Store(true)
	}
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

// recorded is a context and its record, allocated together.
type recorded struct {
	context.Context
	record Record
}

// Value implements context.Context.
func (c *recorded) Value(key any) any {
	if key == (contextKey{}) {
		return &c.record
	}
	return c.Context.Value(key)
}

func with(ctx context.Context, method string) (context.Context, *Record) {
	c := &recorded{Context: ctx}
	r := &c.record
	r.method, r.call, r.attempts = method, r, r.first[:0]
	return c, r
}

// Without returns ctx without the record that it has.
func Without(ctx context.Context) context.Context { return context.WithValue(ctx, contextKey{}, nil) }

// Fork returns ctx with a record for an attempt that is made beside another one.
// It is the same call's, but Mark and Since see what is picked under this context
// only, and the balancer picks no instance that the call has tried.
func (r *Record) Fork(ctx context.Context) (context.Context, *Record) {
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.call.forks++
	f := &recorded{Context: ctx, record: Record{method: r.method, call: r.call, fork: r.call.forks}}
	return f, &f.record
}

// Elsewhere says whether no instance may be picked that the call has tried: it is
// an order, where Avoids is a wish.
func (r *Record) Elsewhere() bool { return r != nil && r.fork > 0 }

// FromContext returns the call's record, or nil.
func FromContext(ctx context.Context) *Record {
	r, _ := ctx.Value(contextKey{}).(*Record)
	return r
}

// Fresh says that a balancer has nothing to look for in r, as in most calls: no
// hints, and no attempts before. It takes no lock.
func (r *Record) Fresh() bool { return r.untouched() && !r.Elsewhere() }

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
