package attempt

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// remembered is how long a latency counts at least; it counts for at most
	// twice as long.
	remembered = 10 * time.Second
	// enough is how many latencies say something about a method.
	enough = 20
	// maxMethods bounds what is learnt: more than any program has methods, unless
	// it hands on whatever it is called with.
	maxMethods = 1024
)

// Latencies is what attempts of each method have taken recently. A nil Latencies
// learns nothing.
type Latencies struct {
	methods sync.Map // full method -> *latency
	count   atomic.Int64
}

// Note notes that an attempt that ended now took d.
func (l *Latencies) Note(method string, d, now time.Duration) {
	if l == nil {
		return
	}
	found, ok := l.methods.Load(method)
	if !ok {
		if l.count.Add(1) > maxMethods {
			l.count.Add(-1)
			return
		}
		var other bool
		if found, other = l.methods.LoadOrStore(method, &latency{born: now}); other {
			l.count.Add(-1)
		}
	}
	found.(*latency).note(d, now)
}

// Quantile returns between what the share q of the method's recent attempts has
// taken, or ok is false when too few are known.
func (l *Latencies) Quantile(method string, q float64) (least, most time.Duration, ok bool) {
	if l == nil {
		return 0, 0, false
	}
	found, ok := l.methods.Load(method)
	if !ok {
		return 0, 0, false
	}
	return found.(*latency).quantile(q, Now())
}

// Buckets are exponential, so many to an octave.
const (
	perOctave = 4
	buckets   = 64 * perOctave
)

// latency is a histogram of two generations, of which the older is forgotten
// when the younger has its age.
type latency struct {
	mu      sync.Mutex    // guards all below; nothing is called under it
	born    time.Duration // of the younger generation, on the clock
	younger [buckets]uint32
	older   [buckets]uint32
}

func (l *latency) note(d, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age(now)
	l.younger[bucket(d)]++
}

func (l *latency) age(now time.Duration) {
	switch age := now - l.born; {
	case age < remembered:
		return
	case age < 2*remembered:
		l.older = l.younger
		l.born += remembered
	default:
		clear(l.older[:])
		l.born = now
	}
	clear(l.younger[:])
}

func (l *latency) quantile(q float64, now time.Duration) (least, most time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age(now)
	var total, below uint64
	for i := range buckets {
		total += uint64(l.younger[i]) + uint64(l.older[i])
	}
	if total < enough {
		return 0, 0, false
	}
	for i := range buckets {
		below += uint64(l.younger[i]) + uint64(l.older[i])
		if float64(below) >= q*float64(total) {
			return bound(i), bound(i + 1), true
		}
	}
	return 0, 0, false
}

// bucket returns the bucket of d: the octave, and a quarter of it.
func bucket(d time.Duration) int {
	n := uint64(max(d, perOctave))
	octave := bits.Len64(n) - 1
	return octave*perOctave + int(n>>(octave-2))&(perOctave-1)
}

// bound returns the least duration of bucket i.
func bound(i int) time.Duration {
	octave, quarter := i/perOctave, i%perOctave
	if octave < 2 {
		return 0
	}
	if octave > 62 {
		return 1<<63 - 1
	}
	return time.Duration((perOctave + uint64(quarter)) << (octave - 2))
}
