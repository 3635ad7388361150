package balancer

import (
	"maps"
	"math/bits"
	"slices"
)

// WeightedRoundRobin picks each instance in turn and as often as its weight says,
// spread evenly: weights 5, 1 and 1 give a a b a c a a. The order of a whole turn
// is computed when an instance or a weight changes, so that a pick costs the same
// whatever the number of instances and the weights.
//
// A turn has at most 64 picks per instance. Weights whose sum, divided by their
// greatest common divisor, is more than that are scaled down: an instance's share
// of the calls is then off by at most 1.6 % of the sum of its own share and the
// average one; equal weights stay equal, and no instance goes without calls.
//
// Calls that come close together take several picks at a time, as in RoundRobin.
type WeightedRoundRobin struct{}

func init() { register(WeightedRoundRobin{}, nil) }

func (WeightedRoundRobin) name() string { return "weighted_round_robin" }

func (WeightedRoundRobin) share(weight uint32) uint32 { return weight }

func (WeightedRoundRobin) schedule(ready []*conn, shares []uint32, at *position) schedule {
	return newRotation(turnOf(ready, shares), at)
}

// turnOf returns who is picked in a whole turn, in order.
func turnOf(ready []*conn, shares []uint32) []*conn {
	counts, total := turn(shares)
	if total == len(ready) {
		return ready // all shares are the same
	}
	table := make([]*conn, total)
	for slot, i := range interleave(counts, total) {
		table[slot] = ready[i]
	}
	return table
}

// maxPicks is how many picks a turn has at most for each instance. It bounds
// memory (8 bytes each) and the error of scaling, which is 1/(maxPicks-1).
const maxPicks = 64

// turn returns how often each of the weights, which are not 0, is picked in one
// turn, and the sum of that. The sum is at most maxPicks for each weight.
func turn(weights []uint32) (counts []uint32, total int) {
	var divisor uint32
	var sum uint64
	for _, w := range weights {
		divisor = gcd(divisor, w)
		sum += uint64(w)
	}
	counts = make([]uint32, len(weights))
	fits := sum/uint64(divisor) <= maxPicks*uint64(len(weights))
	for i, w := range weights {
		if fits {
			counts[i] = w / divisor
		} else {
			// Rounding, and 0 made 1, add less than one pick each: what is left out here.
			counts[i] = max(1, scale(w, (maxPicks-1)*uint64(len(weights)), sum))
		}
		total += int(counts[i])
	}
	return counts, total
}

// scale returns w·to/from, rounded, without overflow. w is at most from.
func scale(w uint32, to, from uint64) uint32 {
	hi, lo := bits.Mul64(uint64(w), to)
	lo, carry := bits.Add64(lo, from/2, 0)
	quotient, _ := bits.Div64(hi+carry, lo, from)
	return uint32(quotient)
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// maxExact is up to which number of steps a turn is computed as nginx does it,
// which takes one step per pick and instance: about 0.1 ms. Above that it is
// spread, which takes one or two steps per pick.
const maxExact = 1 << 16

// interleave returns the order of a turn: who is picked at each of its total
// slots, where i is picked counts[i] times.
func interleave(counts []uint32, total int) []uint32 {
	if total*len(counts) <= maxExact {
		return smooth(counts, total)
	}
	return spread(counts, total)
}

// smooth is nginx's smooth weighted round robin: at each slot everybody gains
// their weight, and the one who then has the most is picked and pays the total.
func smooth(counts []uint32, total int) []uint32 {
	order := make([]uint32, total)
	credit := make([]int, len(counts))
	for slot := range order {
		best := 0
		for i, c := range counts {
			credit[i] += int(c)
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		order[slot] = uint32(best)
	}
	return order
}

// spread puts those with the same count together into a class. The picks of a
// class are due at even distances over the turn and go to its members in turn;
// all picks are then put in the order in which they are due. So no class, and no
// member of it, is ahead or behind by more than rounding the others' due times
// can displace it: half a pick for each class, in proportion to its share.
func spread(counts []uint32, total int) []uint32 {
	classes := map[uint32][]uint32{} // members by count
	for i, c := range counts {
		classes[c] = append(classes[c], uint32(i))
	}
	eachDue := func(do func(slot, i uint32)) {
		for _, count := range slices.Sorted(maps.Keys(classes)) {
			members := classes[count]
			// Times have 32 fractional bits; a turn has less than 2³¹ slots.
			distance := (uint64(total) << 32) / (uint64(len(members)) * uint64(count))
			due := distance / 2
			for range count {
				for _, i := range members {
					do(uint32(due>>32), i)
					due += distance
				}
			}
		}
	}

	// A counting sort by the slot in which a pick is due: first where the picks of
	// each slot go, then the picks.
	places := make([]uint32, total+1)
	eachDue(func(slot, _ uint32) { places[slot+1]++ })
	for slot := range total {
		places[slot+1] += places[slot]
	}
	order := make([]uint32, total)
	eachDue(func(slot, i uint32) {
		order[places[slot]] = i
		places[slot]++
	})
	return order
}
