package balancer

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// LeastRequest draws some instances, each with a probability in proportion to its
// weight, of two that have the same one both, and picks the one with the fewest calls
// in hand for its weight, the first of those that are equal. It counts this client's
// calls only.
type LeastRequest struct {
	// ChoiceCount is how many instances are drawn: 2 to 10. The default is 2.
	ChoiceCount uint32 `json:"choiceCount,omitzero"`
}

func init() { register(LeastRequest{ChoiceCount: 2}, LeastRequest.check) }

func (l LeastRequest) check() error {
	if l.ChoiceCount < 2 || l.ChoiceCount > 10 {
		return fmt.Errorf(`"choiceCount" must be 2 to 10, not %d`, l.ChoiceCount)
	}
	return nil
}

func (LeastRequest) name() string { return "least_request" }

func (LeastRequest) share(weight uint32) uint32 { return weight }

func (l LeastRequest) schedule(ready []*conn, shares []uint32, _ *position) schedule {
	return &leastLoaded{newContest(ready, shares), max(2, int(l.ChoiceCount))}
}

// loadAware is a picker that looks at the calls in hand.
type loadAware interface{ looksAtLoad() }

func (LeastRequest) looksAtLoad() {}
func (P2C) looksAtLoad()          {}

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

// contest draws those whose load is compared.
type contest struct {
	all   []contender
	equal bool // there are several, and all have the same share
}

func newContest(ready []*conn, shares []uint32) contest {
	sum := 0.0
	for _, s := range shares {
		sum += float64(s)
	}
	average := sum / float64(len(shares))
	d := contest{make([]contender, len(ready)), len(ready) > 1 && slices.Min(shares) == slices.Max(shares)}
	for i, ticket := range aliases(shares) {
		perCall := min(averageCall*average/float64(shares[i]), maxCall)
		d.all[i] = contender{ticket, ready[i], ready[i].tally, shares[i], max(1, uint32(perCall))}
	}
	return d
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

type leastLoaded struct {
	contest
	choices int
}

func (l *leastLoaded) next() (c *conn, dice uint64) {
	random := rand.Uint64()
	first := l.draw(random)
	best := &l.all[first]
	least := best.tally.inHand()
	for range l.choices - 1 {
		if c := &l.all[l.rival(first, rand.Uint64())]; c != best {
			hand := c.tally.inHand()
			if uint64(hand)*uint64(best.share) < uint64(least)*uint64(c.share) {
				best, least = c, hand
			}
		}
	}
	return best.conn, random
}
