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

// contender is a connection whose load is compared with others'.
type contender struct {
	*conn
	tally    *tally  // the conn's, at hand
	perShare float64 // 1 for the average share, and the less, the greater the share
	place    int     // among all
}

// contest draws those whose load is compared.
type contest struct {
	lottery[*contender]
	alike bool // all shares are the same
}

func newContest(ready []*conn, shares []uint32) contest {
	sum := 0.0
	for _, s := range shares {
		sum += float64(s)
	}
	average := sum / float64(len(shares))
	all := make([]*contender, len(ready))
	for i, c := range ready {
		all[i] = &contender{c, c.tally, average / float64(shares[i]), i}
	}
	return contest{newLottery(all, shares), slices.Min(shares) == slices.Max(shares)}
}

// rival draws somebody to compare c with: somebody else where all are alike, so that
// also of two the better one is found. Else it may be c, since where few calls are in
// hand the weights are followed by the draws alone.
func (d *contest) rival(c *contender, random uint64) *contender {
	n := len(d.lottery)
	if !d.alike || n == 1 {
		return d.draw(random)
	}
	further, _ := bits.Mul64(random, uint64(n-1))
	place := c.place + 1 + int(further)
	if place >= n {
		place -= n
	}
	return d.lottery[place].own
}

type leastLoaded struct {
	contest
	choices int
}

func (l *leastLoaded) next() (c *conn, dice uint64) {
	random := rand.Uint64()
	first := l.draw(random)
	best, least := first, first.load()
	for range l.choices - 1 {
		if c := l.rival(first, rand.Uint64()); c != best {
			if load := c.load(); load < least {
				best, least = c, load
			}
		}
	}
	return best.conn, random
}

// load is how many calls are in hand, for the share: that of an average one counts
// them as they are.
func (c *contender) load() float64 { return float64(c.tally.inHand()) * c.perShare }
