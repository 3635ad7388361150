package pick

import "slices"

// Avoid asks the balancer not to pick the instance for this call as long as
// another one is ready. Instances that the call has already tried are avoided
// without being named.
func (r *Record) Avoid(id string) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.touch()
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
	r.touch()
	r.call.pin = id
}

// Pinned returns the instance that must be picked, if any.
func (r *Record) Pinned() (id string, ok bool) {
	if r.untouched() {
		return "", false
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	return r.call.pin, r.call.pin != ""
}

// Avoids says whether the instance was already tried by this call or is to be
// avoided for another reason.
func (r *Record) Avoids(id string) bool {
	if r.untouched() {
		return false
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	return slices.Contains(r.call.avoid, id) ||
		slices.ContainsFunc(r.call.attempts, func(a Attempt) bool { return a.Target.ID == id })
}
