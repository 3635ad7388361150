package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// leastPicks is how many picks are measured at least.
	leastPicks = 200_000
	// featureRounds is how often each is measured: a switch lays out anew what picks
	// read, and among many connections that makes more of a difference than a feature.
	featureRounds = 25
)

// featureTable measures what features add to a pick with its Done. They are switched
// on and off where calls are made: two sets of the same number of connections differ
// by more than a feature costs, by where they lie in memory.
func featureTable(t *testing.T) {
	costs, more := results{}, figures{}
	g := newGrid("A pick on all cores with its Done, ns, with features switched on and off", sizesHead(pickSizes)...)
	for _, family := range []string{rollcallP2C, rollcallWeighted} {
		variants := slices.DeleteFunc(slices.Clone(policies), func(p policy) bool { return !strings.HasPrefix(p.name, family) })
		for _, n := range pickSizes {
			t.Run(fmt.Sprintf("%s/%d", family, n), func(t *testing.T) { measureFeatures(t, costs, variants, n) })
		}
		for _, p := range variants {
			row := []string{p.name}
			for _, n := range pickSizes {
				got := costs[figure{p.name, bothParallel.name, n}].wall
				row = append(row, short(got))
				if p.base != "" {
					more[fmt.Sprintf("%s n=%d", p.name, n)] = got - costs[figure{p.base, bothParallel.name, n}].wall
				}
			}
			g.row(row...)
		}
	}
	g.end()
	more.atMost(t, 10, "ns that a feature adds to a pick with its Done:")
}

func measureFeatures(t *testing.T, costs results, variants []policy, n int) {
	bed := ready(t, variants[0], n)
	calls := calling{bothParallel, bed.cc.State().Picker}
	become := func(p policy) {
		if bed.policy.name == p.name {
			return
		}
		bed.policy, bed.config = p, p.parsed(t)
		bed.update(t, p.resolved(n))
		time.Sleep(settle)
		calls.do(picksOfEach * n)
		time.Sleep(2*settle + time.Duration(n)*20*time.Microsecond) // until the engine has noticed
	}
	var each []*measured
	for _, p := range variants {
		each = append(each, &measured{
			figure: figure{p.name, bothParallel.name, n}, parallel: true, times: max(leastPicks, picksOfEach*n), rounds: featureRounds,
			prepare: func() { become(p) }, do: calls.do,
		})
	}
	costs.add(each)
}
