package pick

// Limit bounds how many attempts of the call may execute, whoever makes them; the
// first limit holds. Where several layers try again, they make that many together
// and not the product of what each would.
func (r *Record) Limit(n int) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	if r.call.limit == 0 {
		r.call.limit = n
	}
}

// Spent says whether the call has made all attempts that Limit allows, and
// returns the error of the last one that has ended.
func (r *Record) Spent() (last error, spent bool) {
	if r == nil {
		return nil, false
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	if r.call.limit == 0 || len(r.call.attempts) < r.call.limit {
		return nil, false
	}
	n := 0
	for _, a := range r.call.attempts {
		if a.unused || a.Class.NotExecuted() {
			continue
		}
		n++
		if a.Ended {
			last = a.Err
		}
	}
	return last, n >= r.call.limit
}
