package memory

// Kept counts what r would end in Close.
func Kept(r *Registry) (registrations, watchers int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.registrations), len(r.watchers)
}
