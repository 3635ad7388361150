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
	common := r.call.touch()
	common.avoid = append(common.avoid, id)
}

// Pin orders the balancer to pick this instance and no other for the attempts
// that follow; an empty id takes the order back.
func (r *Record) Pin(id string) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.call.touch().pin = id
}

// Pinned returns the instance that must be picked, if any.
func (r *Record) Pinned() (id string, ok bool) {
	if r.untouched() {
		return "", false
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	id = r.call.seldom().pin
	return id, id != ""
}

// Avoids says whether the instance was already tried by this call or is to be
// avoided for another reason.
func (r *Record) Avoids(id string) bool {
	if r.untouched() {
		return false
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	for t := range r.call.all() {
		if t.target.ID == id {
			return true
		}
	}
	return slices.Contains(r.call.seldom().avoid, id)
}
