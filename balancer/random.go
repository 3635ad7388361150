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
	return raffle{newLottery(ready, shares)}
}

// raffle picks who is drawn.
type raffle struct{ lottery[*conn] }

func (r raffle) next() (c *conn, dice uint64) {
	random := rand.Uint64()
	return r.draw(random), random
}

// lottery draws one of its tickets, each with the same probability, and then one
// of the two that are on it.
type lottery[T any] []ticket[T]

type ticket[T any] struct {
	own, other T
	share      uint64 // of own, of 2⁶⁴
}

// newLottery returns one in which each is drawn with a probability in proportion
// to its share.
func newLottery[T any](all []T, shares []uint32) lottery[T] {
	l := make(lottery[T], len(all))
	for i, a := range aliases(shares) {
		l[i] = ticket[T]{own: all[i], other: all[a.other], share: a.share}
	}
	return l
}

// draw takes a random number.
func (l lottery[T]) draw(random uint64) T {
	i, fraction := bits.Mul64(random, uint64(len(l)))
	t := &l[i]
	// Both are read first so that this becomes a conditional move: which of them it
	// is, no processor can guess.
	own, drawn := t.own, t.other
	if fraction < t.share {
		drawn = own
	}
	return drawn
}

// alias is what Vose's alias method makes of a weight: with equal probability for
// each, i is drawn with a probability of share/2⁶⁴ and other with the rest.
type alias struct {
	share uint64
	other int
}

// aliases computes the method's table in whole numbers, so that it is exact to
// 2⁻⁶⁴. Products fit: a weight has 32 bits, a count of instances less.
func aliases(weights []uint32) []alias {
	n, total := uint64(len(weights)), uint64(0)
	for _, w := range weights {
		total += uint64(w)
	}
	table := make([]alias, n)
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
		table[i].share, _ = bits.Div64(left[i], 0, total)
		left[giver] -= total - left[i]
		if left[giver] < total {
			over = over[:len(over)-1]
			under = append(under, giver)
		}
	}
	return table
}
