package attempt

import (
	"math"
	"math/bits"
	"math/rand/v2"
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
	// sampled is how many answers one stands for that is noted where there are many:
	// so many times enough in a generation.
	sampled = 8
)

// Buckets are exponential, so many to an octave.
const (
	perOctave = 4
	buckets   = 64 * perOctave
)

// Latency is what the attempts of a method have taken recently: a histogram of two
// generations, of which the older is forgotten when the younger has its age. A nil
// Latency learns nothing.
type Latency struct {
	busyUntil atomic.Int64 // so long one of sampled is noted; on the clock

	mu      sync.Mutex    // guards all below; nothing is called under it
	born    time.Duration // of the younger generation, on the clock
	count   uint32        // in it
	younger [buckets]uint32
	older   [buckets]uint32
}

func newLatency() *Latency {
	l := &Latency{born: Now()}
	l.busyUntil.Store(math.MinInt64)
	return l
}

// Sample returns for how many answers one is to be noted that comes about now: 0 if
// it is not.
func (l *Latency) Sample(now time.Duration) (answers uint32) {
	switch {
	case l == nil:
		return 0
	case now >= time.Duration(l.busyUntil.Load()):
		return 1
	case rand.Uint32()%sampled == 0:
		return sampled
	default:
		return 0
	}
}

// Note notes for so many answers that one came now, after d.
func (l *Latency) Note(answers uint32, d, now time.Duration) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age(now)
	l.younger[bucket(d)] += answers
	l.count += answers
	if l.count >= sampled*enough {
		l.busyUntil.Store(int64(l.born + remembered))
	}
}

func (l *Latency) age(now time.Duration) {
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
	l.count = 0
}

// Quantile returns between what the share q of the recent attempts has taken, or
// ok is false when too few are known.
func (l *Latency) Quantile(q float64) (least, most time.Duration, ok bool) {
	if l == nil {
		return 0, 0, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age(Now())
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
