package balancer

import (
	"math/bits"
	"runtime"
	"sync/atomic"
)

// answers counts the answered calls of some instances. Goroutines count in different rows,
// so that they hardly ever wait for each other's processor to hand over a cache line.
type answers struct {
	rows [][answersOf]atomic.Uint32
	used uint16 // how many instances have a column; the engine's mu guards it
}

const (
	answersOf = 64
	// rowsOfEach is how many rows there are for each processor, from leastRows to mostRows.
	rowsOfEach = 4
	leastRows  = 16
	mostRows   = 64
)

func newAnswers() *answers {
	rows := min(max(leastRows, rowsOfEach*runtime.GOMAXPROCS(0)), mostRows)
	return &answers{rows: make([][answersOf]atomic.Uint32, 1<<bits.Len(uint(rows-1)))}
}

// add counts an answer in this column.
func (a *answers) add(column uint16) {
	row := ownStack() * golden >> 32
	a.rows[row&uint64(len(a.rows)-1)][column%answersOf].Add(1)
}

// of is how many answers were counted in this column.
func (a *answers) of(column uint16) (sum uint32) {
	for i := range a.rows {
		sum += a.rows[i][column].Load()
	}
	return sum
}
