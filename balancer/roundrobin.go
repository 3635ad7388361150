package balancer

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
)

// RoundRobin picks each instance in turn, whatever its weight. Over one turn all
// get the same number of calls. Turns are in the order in which the resolver
// first named the instances, from a random place.
type RoundRobin struct{}

func init() { register(RoundRobin{}, nil) }

func (RoundRobin) name() string { return "round_robin" }

func (RoundRobin) share(uint32) uint32 { return 1 }

func (RoundRobin) schedule(ready []*conn, shares []uint32, at *position) schedule {
	return newRotation(turnOf(ready, shares), at)
}

// position is how far a balancer's rotations have come, as a fraction of the
// whole turn in units of 2⁻⁶⁴. A fraction stays meaningful when the turn changes:
// who has been served continues to wait, who has waited is next.
type position struct {
	_     [64]byte // a cache line of its own: every pick writes it
	phase atomic.Uint64
	_     [64 - 8]byte
}

// start moves to a random place, so that clients that start together do not all
// call the same instance first.
func (p *position) start() { p.phase.Store(rand.Uint64()) }

// rotation goes round a table.
type rotation struct {
	table []*conn
	step  uint64 // one place of the table, in units of a position
	at    *position
}

func newRotation(table []*conn, at *position) *rotation {
	return &rotation{table: table, step: math.MaxUint64 / uint64(len(table)), at: at}
}

// next returns the entry of the table that the position points to after one more
// step. As steps are whole numbers, one entry is returned twice in a row once in
// 2⁶⁴/len(table) picks.
func (r *rotation) next() *conn {
	i, _ := bits.Mul64(r.at.phase.Add(r.step), uint64(len(r.table)))
	return r.table[i]
}
