package pick

import "math"

// Limit bounds how many attempts of the call may execute, whoever makes them; the
// first limit holds, and one below 1 is none. Where several layers try again, they
// make that many together and not the product of what each would.
func (r *Record) Limit(n int) {
	if r != nil && n > 0 {
		r.call.limit.CompareAndSwap(0, int32(min(n, math.MaxInt32)))
	}
}

// Spent says whether the call has made all attempts that Limit allows, and
// returns the error of the last one that has ended.
func (r *Record) Spent() (last error, spent bool) {
	if r.untouched() {
		return nil, false
	}
	limit := int(r.call.limit.Load())
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	if limit == 0 || int(r.call.tries) < limit {
		return nil, false
	}
	n := 0
	for t := range r.call.all() {
		if t.unused || t.class.NotExecuted() {
			continue
		}
		n++
		if t.ended {
			last = t.err
		}
	}
	return last, n >= limit
}
