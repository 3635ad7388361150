package balancer

import (
	"fmt"
	"math/rand/v2"
)

// LeastRequest draws some instances, each with a probability in proportion to its
// weight, of two that have the same one both, and picks the one with the fewest calls
// in hand for its weight, the first of those that are equal. It counts this client's
// calls only. From a million calls a second on it picks in runs, as P2C does.
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

func (l LeastRequest) schedule(ready []*conn, shares []uint32, at *position) schedule {
	return newContest(l, ready, shares, &at.crowd)
}

func (l LeastRequest) winner(d *contest, random uint64) int {
	first := d.draw(random)
	best, least := first, d.all[first].tally.inHand()
	for range max(2, l.ChoiceCount) - 1 {
		if other := d.rival(first, rand.Uint64()); other != best {
			hand := d.all[other].tally.inHand()
			if uint64(hand)*uint64(d.all[best].share) < uint64(least)*uint64(d.all[other].share) {
				best, least = other, hand
			}
		}
	}
	return best
}
