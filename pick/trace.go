package pick

import (
	"iter"
	"time"
)

// Target is the instance that was picked for an attempt.
type Target struct {
	ID   string // the instance's ID; its address where the resolver gave no instance
	Life string // which process under that ID, if known
	Addr string // host:port
}

// Attempt is one attempt of the call, as the balancer saw it.
type Attempt struct {
	Target Target
	Err    error // nil when it succeeded, and while it is in flight
	Advice Advice
	Class  Class
	Ended  bool // false while it is in flight
}

// tried is an attempt, or a pick that gRPC did not use.
type tried struct {
	target               *Target
	err                  error
	wait                 time.Duration
	fork                 int32
	class                Class
	ended, unused, never bool
}

func (t *tried) attempt() Attempt {
	return Attempt{Target: *t.target, Err: t.err, Advice: Advice{t.never, t.wait}, Class: t.class, Ended: t.ended}
}

// nth returns attempt n. It is the call's record, whose mu is held.
func (r *Record) nth(n int) *tried {
	if n == 0 {
		return &r.first
	}
	return &r.rare.later[n-1]
}

// all returns all attempts, in order. It is the call's record, whose mu is held.
func (r *Record) all() iter.Seq[*tried] { return r.after(0) }

func (r *Record) after(n int) iter.Seq[*tried] {
	return func(yield func(*tried) bool) {
		for ; n < int(r.tries) && yield(r.nth(n)); n++ {
		}
	}
}

// Advice is what the server that answered an attempt said about another one.
type Advice struct {
	Never bool          // do not try again
	Wait  time.Duration // if more than 0, try again after this and not before
}

// Begin notes that target was picked for an attempt, and returns the attempt's
// number for End or Unused. Nobody changes target any more. The balancer calls it.
func (r *Record) Begin(target *Target) (n int) {
	if r == nil {
		return 0
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.set(touched)
	t := tried{target: target, class: Unanswered, fork: r.fork}
	if n = int(r.call.tries); n == 0 {
		r.call.first = t
	} else {
		common := r.call.touch()
		common.later = append(common.later, t)
	}
	r.call.tries++
	return n
}

// End notes how attempt n ended. The balancer calls it.
func (r *Record) End(n int, class Class, err error) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	t := r.call.nth(n)
	t.class, t.err, t.ended = class, err, true
}

// Advise notes what the server of attempt n said about another one. The balancer
// calls it.
func (r *Record) Advise(n int, advice Advice) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	t := r.call.nth(n)
	t.never, t.wait = advice.Never, advice.Wait
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
	r.call.nth(n).unused = true
	own := r.touch()
	own.notPicked++
	own.lastError = nil
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
	own := r.touch()
	own.notPicked++
	own.lastError = err
}

// NotPickedError returns the error of the last pick that led to no attempt: what
// NotPicked was told, or nil where that was Unused or nothing.
func (r *Record) NotPickedError() error {
	if r.untouched() {
		return nil
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	return r.seldom().lastError
}

// Attempts returns a copy of the attempts so far, in the order of their picks.
func (r *Record) Attempts() []Attempt {
	if r.untouched() {
		return nil
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	var attempts []Attempt
	for t := range r.call.all() {
		if !t.unused {
			attempts = append(attempts, t.attempt())
		}
	}
	return attempts
}

// Mark is a place in the record.
type Mark struct{ attempts, notPicked int }

// Mark returns the place where the record is now, for Since.
func (r *Record) Mark() Mark {
	if r.untouched() {
		return Mark{}
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	return Mark{int(r.call.tries), r.seldom().notPicked}
}

// Since returns the attempts after m, as Attempts does, and what is certain
// about all of them together: the class of the last one, unless an earlier one
// may have executed and the last one has not. That is what an interceptor wants
// to know of one Invoke, in which gRPC may have made several attempts.
func (r *Record) Since(m Mark) ([]Attempt, Class) {
	if r.untouched() {
		return nil, Untracked
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	var attempts []Attempt
	for t := range r.call.after(m.attempts) {
		if !t.unused && t.fork == r.fork {
			attempts = append(attempts, t.attempt())
		}
	}
	switch {
	case len(attempts) > 0:
		return attempts, together(attempts)
	case r.seldom().notPicked > m.notPicked:
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
