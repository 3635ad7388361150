package balancer

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"os"
	"slices"

	gresolver "google.golang.org/grpc/resolver"
)

// Subset connects this client to some of the instances only, where all clients
// together would hold too many connections. It is off unless it is configured.
//
// Each client draws its own subset by rendezvous hashing: an instance that comes
// or goes changes one connection of those clients that it concerns, and nobody
// draws anew. Instances that drain do not count among the Size, and keep their
// connections until they are gone. The draw does not look at zones.
//
// With C clients an instance has C·Size/N connections on average. That number is
// random, with a standard deviation of about its square root, and so is the load
// of an instance: for loads within 10 % of each other, C·Size/N must be 100 or
// more. When a share f of all instances fails at once, a client loses all of its
// own with a probability of f to the power of Size: 20 is plenty.
type Subset struct {
	// Size is how many instances a client is connected to.
	Size uint32 `json:"size,omitzero"`
	// Key is what the client's draw depends on, and must differ between clients.
	// The default is its host name and process ID.
	Key string `json:"key,omitzero"`
}

func (s Subset) complete() (Subset, error) {
	var r rules
	r.want(s.Size > 0, `"size" must be given and at least 1`)
	if s.Key == "" {
		host, _ := os.Hostname() // without one the process ID must do
		s.Key = fmt.Sprintf("%s/%d", host, os.Getpid())
	}
	return s, r.err()
}

func (s Subset) on() bool { return s.Size > 0 }

// of returns the endpoints that belong to the subset, in their order.
func (s Subset) of(endpoints []gresolver.Endpoint) []gresolver.Endpoint {
	if !s.on() || uint64(len(endpoints)) <= uint64(s.Size) {
		return endpoints
	}
	type candidate struct {
		place    int
		hash     uint64
		draining bool
	}
	var all []candidate
	up := 0
	for i, ep := range endpoints {
		if len(ep.Addresses) == 0 {
			continue
		}
		m := memberOf(ep)
		all = append(all, candidate{i, s.hash(m.id), m.draining})
		if !m.draining {
			up++
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.place, b.place)) })
	var drawn []int // places
	for left := s.Size; left > 0 && len(drawn) < len(all); {
		c := all[len(drawn)]
		drawn = append(drawn, c.place)
		if !c.draining || up == 0 {
			left--
		}
	}
	slices.Sort(drawn)
	chosen := make([]gresolver.Endpoint, len(drawn))
	for i, place := range drawn {
		chosen[i] = endpoints[place]
	}
	return chosen
}

// hash places an instance in this client's order. FNV-1a by itself hardly mixes
// the last bytes, in which IDs differ, into the high bits, so its result is
// finished as MurmurHash3 does it.
func (s Subset) hash(id string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s.Key))
	h.Write([]byte{0})
	h.Write([]byte(id))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
