package balancer

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

// loadAware is a picker that looks at the calls in hand. It draws some with a contest and
// picks the winner.
type loadAware interface {
	// winner returns its place.
	winner(d *contest, random uint64) (place int)
}

// contender is a connection whose load is compared with others', and its ticket in
// the lottery.
type contender struct {
	alias
	conn    *conn
	tally   *tally // the conn's, at hand
	share   uint32
	perCall uint32 // what each call in hand is to it, in units of averageCall
}

// averageCall is what a call in hand is to an instance with the average share; to
// others it is the more, the less their share is, up to maxCall.
const (
	averageCall = 1 << 20
	maxCall     = 1 << 31
)

// contest draws those whose load is compared. Where so many calls are made that processors
// mostly find what they compare changed by others, they let who has won have their next few
// calls as well.
type contest struct {
	rules  loadAware
	all    []contender
	equal  bool // there are several, and all have the same share
	at     *crowd
	number uint64 // tells contests apart
}

// runLength is how many picks in a row a processor makes of who has won in a crowd.
const runLength = 4

func newContest(rules loadAware, ready []*conn, shares []uint32, at *crowd) *contest {
	sum := 0.0
	for _, s := range shares {
		sum += float64(s)
	}
	average := sum / float64(len(shares))
	at.contests++
	d := &contest{
		rules: rules, all: make([]contender, len(ready)), at: at, number: at.contests % (1 << 24),
		equal: len(ready) > 1 && slices.Min(shares) == slices.Max(shares),
	}
	for i, ticket := range aliases(shares) {
		perCall := min(averageCall*average/float64(shares[i]), maxCall)
		d.all[i] = contender{ticket, ready[i], ready[i].tally, shares[i], max(1, uint32(perCall))}
	}
	return d
}

func (d *contest) next(afresh bool) (c *conn, dice uint64) {
	if d.at.crowded.Load() && !afresh {
		return d.nextInCrowd()
	}
	random := rand.Uint64()
	if random%countedOf == 0 && !afresh {
		d.at.count()
	}
	return d.all[d.rules.winner(d, random)].conn, random
}

func (d *contest) nextInCrowd() (c *conn, dice uint64) {
	seat := d.at.seat()
	if seat.taken() {
		if c, dice := d.again(d.at.blockAt(seat)); c != nil {
			return c, dice
		}
	}
	b := d.at.own()
	if c, dice := d.again(b); c != nil {
		if seat.taken() { // at another processor's block
			seat.take(b)
		}
		return c, dice
	}
	seat.take(b)
	random := rand.Uint64()
	if random%(countedOf/runLength) == 0 {
		d.at.count()
	}
	place := d.rules.winner(d, random)
	b.dice.Store(random)
	b.run.Store(d.number<<40 | (runLength-1)<<32 | uint64(place))
	return d.all[place].conn, random
}

// again picks who has won last, if that has picks left.
func (d *contest) again(b *block) (c *conn, dice uint64) {
	run := b.run.Load()
	left, place := run>>32%(1<<8), uint32(run)
	if run>>40 != d.number || left == 0 || int(place) >= len(d.all) {
		return nil, 0
	}
	b.run.Store(run - 1<<32)
	return d.all[place].conn, b.dice.Load() + left*golden
}

// draw draws the place of somebody.
func (d *contest) draw(random uint64) int {
	i, fraction := bits.Mul64(random, uint64(len(d.all)))
	return d.all[i].drawn(int(i), fraction)
}

// rival draws somebody to compare with who is at this place: somebody else where all
// have the same share, so that also of two the better one is found. Else it may be the
// same, since where few calls are in hand the weights are followed by the draws alone.
func (d *contest) rival(place int, random uint64) int {
	if d.equal {
		return d.another(place, random)
	}
	return d.draw(random)
}

// another draws somebody else, whatever the shares.
func (d *contest) another(place int, random uint64) int {
	other, _ := bits.Mul64(random, uint64(len(d.all)-1))
	_, before := bits.Sub64(other, uint64(place), 0)
	return int(other + 1 - before)
}
