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
	limit atomic.Int32  // of attempts; 0 for none
	flags atomic.Uint32 // are set, and not cleared

	mu    sync.Mutex // call.mu guards all below; nothing is called under it
	tries int32      // of call only, as the next one
	first tried      // what the first was, so that most calls allocate once
	rare  *rare      // nil as long as it is empty
}

// What is known of a call and not of most, or from its start on.
const (
	touched uint32 = 1 << iota // there is something that a balancer looks for
	unary                      // no stream
	asked                      // instances are asked for
)

// rare is what most records do without.
type rare struct {
	notPicked int   // picks that led to no attempt
	lastError error // of the last of them; nil if it is not known

	// Of call only.
	later     []tried // after the first
	avoid     []string
	pin       string
	forks     int32
	instances []string // nil if not told
}

// has says whether the flag is set. It takes no lock.
func (r *Record) has(flag uint32) bool { return r.call.flags.Load()&flag != 0 }

func (r *Record) set(flag uint32) {
	if !r.has(flag) {
		r.call.flags.Or(flag)
	}
}

// untouched says that there is nothing in r yet that a balancer would look for.
// Most calls make one attempt and have no hints, and need no lock to learn that.
func (r *Record) untouched() bool { return r == nil || !r.has(touched) }

// touch returns what is rare in r, to put something there that a balancer looks for.
// call.mu is held.
func (r *Record) touch() *rare {
	r.set(touched)
	if r.rare == nil {
		r.rare = new(rare)
	}
	return r.rare
}

// seldom returns what is rare in r. call.mu is held.
func (r *Record) seldom() rare {
	if r.rare == nil {
		return rare{}
	}
	return *r.rare
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
	r.method, r.call = method, r
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
	common := r.call.touch()
	common.forks++
	f := &recorded{Context: ctx, record: Record{method: r.method, call: r.call, fork: common.forks}}
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
	if r != nil {
		r.set(unary)
	}
}

// Unary says whether the call is known to be unary: false is a stream, or a record
// of which no interceptor has said so. It takes no lock.
func (r *Record) Unary() bool { return r != nil && r.has(unary) }
