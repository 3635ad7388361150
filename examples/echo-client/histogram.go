package main

import (
	"math/bits"
	"time"
)

// subBuckets is into how many parts each power of two is divided: a quantile is
// at most 1/64 (1.6 %) too high.
const subBuckets = 64

// histogram counts latencies. Its size does not depend on how many.
type histogram struct {
	buckets [subBuckets * 58]int64 // for any time.Duration
	count   int64
	max     time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucketOf(d)]++
	h.count++
	h.max = max(h.max, d)
}

// quantile returns the latency that the share q of all calls did not exceed, 0
// if there were none.
func (h *histogram) quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := min(int64(q*float64(h.count)), h.count-1)
	for i, n := range h.buckets {
		if rank -= n; rank < 0 {
			return min(upperBound(i), h.max)
		}
	}
	return h.max
}

// bucketOf: values below 2·subBuckets have a bucket each; above, the leading
// bits are the bucket.
func bucketOf(d time.Duration) int {
	shift := max(bits.Len64(uint64(d))-bits.Len(subBuckets), 0)
	return shift*subBuckets + int(uint64(d)>>shift)
}

// upperBound is the largest value in bucket i.
func upperBound(i int) time.Duration {
	shift := max(i/subBuckets-1, 0)
	return time.Duration(uint64(i-shift*subBuckets+1)<<shift - 1)
}
