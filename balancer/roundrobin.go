package balancer

import (
	"math"
	"math/bits"
)

// RoundRobin picks each instance in turn, whatever its weight. Over one turn all
// get the same number of calls. Turns are in the order in which the resolver
// first named the instances, from a random place.
//
// Where calls come so close together that they would wait for each other, each
// processor takes 31 picks in a row for its calls. What is left of those when
// calls are rarer again is made the next time: an instance may be one pick behind
// for each processor.
type RoundRobin struct{}

func init() { register(RoundRobin{}, nil) }

func (RoundRobin) name() string { return "round_robin" }

func (RoundRobin) share(uint32) uint32 { return 1 }

func (RoundRobin) schedule(ready []*conn, shares []uint32, at *position) schedule {
	return newRotation(turnOf(ready, shares), at)
}

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
func (r *rotation) next(bool) (c *conn, dice uint64) {
	phase, alone := r.at.nextAlone(r.step)
	if !alone {
		phase = r.at.nextInCrowd(r.step)
	}
	i, _ := bits.Mul64(phase, uint64(len(r.table)))
	return r.table[i], 0
}
