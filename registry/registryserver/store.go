package registryserver

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// store is the registry's memory. It reads no clock: whoever calls it says
// what time it is. One lock for all of it makes a first registration, and one
// that races the cancel of an app's last instance, atomic.
type store struct {
	mu        sync.RWMutex // guards all below; nothing is called under it
	buckets   map[key]*bucket
	total     int  // instances in all buckets
	beats     int  // renewals since the last expire
	protected bool // what the last expire found
}

// key names a bucket: a struct, because joined by '-' app "a" of env "b-c" and
// app "a-b" of env "c" would be one.
type key struct{ appID, env string }

// bucket holds the instances of one app in one environment. It exists as long
// as it has any.
type bucket struct {
	counter int64    // told as latest_timestamp of the app
	entries []*entry // by hostname
}

// registration is what a register request asks for. A time of 0 was not given.
type registration struct {
	wire.RegisterRequest
	dirty  int64 // version of the content
	latest int64 // least value of the app's counter
}

// outcome is what became of a registration.
type outcome uint8

const (
	added outcome = iota + 1
	replaced
	outdated // the stored content is newer
)

func newStore() *store { return &store{buckets: map[key]*bucket{}} }

func keyOf(id wire.Identity) key { return key{appID: id.AppID, env: id.Env} }

// register adds the instance or replaces its content as a whole.
func (s *store) register(r registration, now time.Time) outcome {
	given, latest := past(r.dirty, now), past(r.latest, now)
	fresh := newEntry(r.RegisterRequest, cmp.Or(given, now.UnixNano()), now)

	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[keyOf(r.Identity)]
	if b == nil {
		b = &bucket{}
		s.buckets[keyOf(r.Identity)] = b
	}
	b.advance(latest)
	i, found := b.find(r.Hostname)
	if !found {
		b.entries = slices.Insert(b.entries, i, fresh)
		s.total++
		return added
	}
	// Only who says how old the content is can be told that it is outdated: by
	// the clock alone nothing could be registered after the clock was set back.
	if given != 0 && given < b.entries[i].dirty {
		return outdated
	}
	fresh.up = b.entries[i].up
	b.entries[i] = fresh
	return replaced
}

// renew reports whether the instance is known.
func (s *store) renew(id wire.Identity, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[keyOf(id)]
	i, found := b.find(id.Hostname)
	if found {
		b.entries[i].renewed = now
		s.beats++
	}
	return found
}

// cancel reports whether the instance was known.
func (s *store) cancel(id wire.Identity, latest int64, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[keyOf(id)]
	i, found := b.find(id.Hostname)
	if !found {
		return false
	}
	b.entries = slices.Delete(b.entries, i, i+1)
	s.removed(keyOf(id), 1, past(latest, now))
	return true
}

// removed keeps the books after n entries have left the bucket. s.mu is held.
func (s *store) removed(k key, n int, latest int64) {
	b := s.buckets[k]
	for range n {
		b.advance(latest)
	}
	s.total -= n
	if len(b.entries) == 0 {
		delete(s.buckets, k)
	}
}

// appendFetch appends the data of fetch: the instances whose status is in the
// mask, and the app's counter. It reports whether there is any.
func (s *store) appendFetch(dst []byte, k key, mask uint32) ([]byte, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.buckets[k]
	if b == nil {
		return dst, false
	}
	dst = slices.Grow(dst, len(b.entries)*usualSize)
	dst = append(dst, `{"instances":[`...)
	empty := len(dst)
	for _, e := range b.entries {
		if e.status&mask != 0 {
			dst = append(e.appendJSON(dst, e.head), ',')
		}
	}
	if len(dst) == empty {
		return dst, false
	}
	dst = append(dst[:len(dst)-1], `],"latest_timestamp":`...)
	return append(strconv.AppendInt(dst, b.counter, 10), '}'), true
}

// appendAll appends the data of fetchall: app to instances of all environments.
func (s *store) appendAll(dst []byte) []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := slices.SortedFunc(maps.Keys(s.buckets), func(a, b key) int {
		return cmp.Or(strings.Compare(a.appID, b.appID), strings.Compare(a.env, b.env))
	})
	dst = slices.Grow(dst, s.total*usualSize)
	dst = append(dst, '{')
	for i, k := range keys {
		switch {
		case i > 0 && keys[i-1].appID == k.appID:
			dst = append(dst[:len(dst)-1], ',') // go on with this app's array
		case i > 0:
			dst = append(dst, ',')
			fallthrough
		default:
			dst = append(append(dst, marshal(k.appID)...), ':', '[')
		}
		for _, e := range s.buckets[k].entries {
			dst = append(e.appendJSON(dst, e.headAll), ',')
		}
		dst[len(dst)-1] = ']' // a bucket is never empty
	}
	return append(dst, '}')
}

// find returns where the hostname is, or belongs. A nil bucket is empty.
func (b *bucket) find(hostname string) (int, bool) {
	if b == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(b.entries, hostname, func(e *entry, h string) int {
		return strings.Compare(e.hostname, h)
	})
}

// advance moves the counter at a change: to the given value if that is ahead,
// else by one.
func (b *bucket) advance(given int64) {
	if given > b.counter {
		b.counter = given
	} else {
		b.counter++
	}
}

// past is ts unless it lies in the future: then it counts as not given. A
// client could otherwise freeze an instance's content, or drive the app's
// counter to where it wraps.
func past(ts int64, now time.Time) int64 {
	if ts < 0 || ts > now.UnixNano() {
		return 0
	}
	return ts
}
