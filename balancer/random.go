package balancer

import (
	"math/bits"
	"math/rand/v2"
)

// Random picks each instance with a probability in proportion to its weight.
// A pick costs the same whatever the number of instances and the weights.
type Random struct{}

func init() { register(Random{}, nil) }

func (Random) name() string { return "random" }

func (Random) share(weight uint32) uint32 { return weight }

func (Random) schedule(ready []*conn, shares []uint32, _ *position) schedule {
	return raffle{aliases(shares), ready}
}

// raffle picks who is drawn.
type raffle struct {
	lottery
	ready []*conn
}

func (r raffle) next(bool) (c *conn, dice uint64) {
	random := rand.Uint64()
	return r.ready[r.draw(random)], random
}

// lottery draws one of its tickets, each with the same probability, and then one
// of the two places that are on it: its own and another.
type lottery []alias

// draw takes a random number.
func (l lottery) draw(random uint64) int {
	i, fraction := bits.Mul64(random, uint64(len(l)))
	return l[i].drawn(int(i), fraction)
}

// drawn is who is drawn with the ticket of this place.
func (a *alias) drawn(place int, fraction uint64) int {
	_, less := bits.Sub64(fraction, a.own, 0)
	return either(less, place, a.other)
}

// either returns a if which is 1, and b if it is 0. It does not branch: what is drawn
// or compared at random, no processor can guess.
func either(which uint64, a, b int) int { return b ^ (a^b)&-int(which) }

// alias is what Vose's alias method makes of a weight: with equal probability for
// each, i is drawn with a probability of own/2⁶⁴ and other with the rest.
type alias struct {
	own   uint64
	other int
}

// aliases computes the method's table in whole numbers, so that it is exact to
// 2⁻⁶⁴. Products fit: a weight has 32 bits, a count of instances less.
func aliases(weights []uint32) lottery {
	n, total := uint64(len(weights)), uint64(0)
	for _, w := range weights {
		total += uint64(w)
	}
	table := make(lottery, n)
	left := make([]uint64, n) // in units of which a ticket holds total
	var under, over []int
	for i, w := range weights {
		table[i].other = i
		left[i] = uint64(w) * n
		if left[i] < total {
			under = append(under, i)
		} else {
			over = append(over, i)
		}
	}
	for len(under) > 0 && len(over) > 0 {
		i, giver := under[len(under)-1], over[len(over)-1]
		under = under[:len(under)-1]
		table[i].other = giver
		table[i].own, _ = bits.Div64(left[i], 0, total)
		left[giver] -= total - left[i]
		if left[giver] < total {
			over = over[:len(over)-1]
			under = append(under, giver)
		}
	}
	return table
}
