package balancer

import "cmp"

// Zone keeps calls in the client's own zone as far as that zone can bear them. It
// is off unless it is configured.
//
// The client's zone can bear its clients' calls if it has its share of the weight:
// that of all instances that are known and do not drain, divided by the number of
// zones. What of it is connected and healthy, multiplied by Overprovision, is the
// part of the calls that stay; the rest goes to the other zones, by weight. So with
// equal zones and the default all calls stay until 29 % of the own zone is out of
// order, and then they leave bit by bit; a zone that is smaller than the others
// keeps only what it can bear. That the clients are spread over the zones evenly is
// assumed. With no instance in the client's zone all zones are used alike.
//
// Fields that are zero stand for their defaults; Local has none.
type Zone struct {
	// Local is the client's zone, as instances name theirs.
	Local string `json:"local,omitzero"`
	// Overprovision is how much more than its share an instance bears, as a factor.
	// The default is 1.4.
	Overprovision float64 `json:"overprovision,omitzero"`
}

func (z Zone) complete() (Zone, error) {
	z.Overprovision = cmp.Or(z.Overprovision, 1.4)
	var r rules
	r.want(z.Local != "", `"local" must name the client's zone`)
	r.want(z.Overprovision >= 1 && z.Overprovision <= 1000, `"overprovision" must be at least 1 and at most 1000`)
	return z, r.err()
}

func (z Zone) on() bool { return z.Local != "" }

// stays is the part of the calls that stay in the local zone, if that much of all
// weight is wanted there.
func (z Zone) stays(local, all float64, zones int) float64 {
	if all == 0 {
		return 1
	}
	return min(1, z.Overprovision*local*float64(zones)/all)
}
