package balancer

import "slices"

// maxTombstones bounds how many processes that have closed are remembered: more
// than a client sees close while any stale list of instances lives.
const maxTombstones = 1024

// tombstones are the lives that have said that they close, so that an instance
// which left the resolver's list is still known when a stale list names it again.
// When there are too many the oldest is forgotten.
type tombstones struct {
	lives  map[[2]string]bool
	oldest [][2]string
}

func (t *tombstones) contains(id, life string) bool { return t.lives[[2]string{id, life}] }

func (t *tombstones) add(id, life string) {
	key := [2]string{id, life}
	if t.lives[key] {
		return
	}
	if t.lives == nil {
		t.lives = map[[2]string]bool{}
	}
	if len(t.oldest) == maxTombstones {
		delete(t.lives, t.oldest[0])
		t.oldest = slices.Delete(t.oldest, 0, 1)
	}
	t.lives[key] = true
	t.oldest = append(t.oldest, key)
}
