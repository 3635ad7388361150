package pick

// AskInstances asks the balancer to say, whenever it picks for the call, which
// instances there are.
func (r *Record) AskInstances() {
	if r != nil {
		r.set(asked)
	}
}

// InstancesAsked says whether AskInstances was called. It takes no lock.
func (r *Record) InstancesAsked() bool { return r != nil && r.has(asked) }

// SetInstances notes the IDs of all instances, whatever their state. The balancer
// calls it.
func (r *Record) SetInstances(ids []string) {
	if r == nil {
		return
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	r.call.touch().instances = ids
}

// Instances returns what SetInstances was told last; known is false if it was not
// called.
func (r *Record) Instances() (ids []string, known bool) {
	if r == nil {
		return nil, false
	}
	r.call.mu.Lock()
	defer r.call.mu.Unlock()
	ids = r.call.seldom().instances
	return ids, ids != nil
}
