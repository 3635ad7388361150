package balancer

import "slices"

// maxLives bounds how many processes that have left are remembered: more than a
// client sees leave while any stale list of instances lives.
const maxLives = 1024

// life is a process under an ID.
type life struct{ id, life string }

// lives are processes that something is known of which must not be forgotten when
// the resolver's list does not name them for a while. When there are too many the
// oldest is forgotten.
type lives struct {
	known  map[life]bool
	ids    map[string]int // how many are known
	oldest []life
}

func (l *lives) contains(id, of string) bool { return l.known[life{id, of}] }

// containsID says whether any process under the ID is known.
func (l *lives) containsID(id string) bool { return l.ids[id] > 0 }

func (l *lives) add(id, of string) {
	if l.contains(id, of) {
		return
	}
	if l.known == nil {
		l.known, l.ids = map[life]bool{}, map[string]int{}
	}
	if len(l.oldest) == maxLives {
		l.remove(l.oldest[0].id, l.oldest[0].life)
	}
	one := life{id, of}
	l.known[one] = true
	l.ids[id]++
	l.oldest = append(l.oldest, one)
}

func (l *lives) remove(id, of string) {
	if !l.contains(id, of) {
		return
	}
	one := life{id, of}
	delete(l.known, one)
	if l.ids[id]--; l.ids[id] == 0 {
		delete(l.ids, id)
	}
	i := slices.Index(l.oldest, one)
	l.oldest = slices.Delete(l.oldest, i, i+1)
}
