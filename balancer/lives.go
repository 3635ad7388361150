package balancer

import "slices"

// maxLives bounds how many processes that have left are remembered: more than a
// client sees leave while any stale list of instances lives.
const maxLives = 1024

// lives are processes that something is known of which must not be forgotten when
// the resolver's list does not name them for a while. When there are too many the
// oldest is forgotten.
type lives struct {
	known  map[[2]string]bool
	oldest [][2]string
}

func (l *lives) contains(id, life string) bool { return l.known[[2]string{id, life}] }

func (l *lives) add(id, life string) {
	key := [2]string{id, life}
	if l.known[key] {
		return
	}
	if l.known == nil {
		l.known = map[[2]string]bool{}
	}
	if len(l.oldest) == maxLives {
		delete(l.known, l.oldest[0])
		l.oldest = slices.Delete(l.oldest, 0, 1)
	}
	l.known[key] = true
	l.oldest = append(l.oldest, key)
}

func (l *lives) remove(id, life string) {
	key := [2]string{id, life}
	if l.known[key] {
		delete(l.known, key)
		l.oldest = slices.DeleteFunc(l.oldest, func(k [2]string) bool { return k == key })
	}
}
