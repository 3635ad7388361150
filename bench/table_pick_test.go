package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/balancer"
)

// control is grpc-go's round_robin once more: what noise looks like.
func control() policy {
	p := named(grpcRoundRobin)
	p.name += " again"
	return p
}

// picksOfEach is how often each instance is picked in a measurement: so often that
// what is done once in a while has no more than its share.
const picksOfEach = 100

func pickTable(t *testing.T) {
	costs, all := results{}, slices.Concat([]policy{control()}, policies)
	for _, n := range pickSizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) { // closes the policies
			var each []*measured
			for _, p := range all {
				if p.variant || !p.picks(n) {
					continue
				}
				picker := ready(t, p, n).cc.State().Picker
				for _, c := range calls {
					each = append(each, &measured{
						figure: figure{p.name, c.name, n}, parallel: c.parallel, least: picksOfEach * n,
						do: calling{c, picker}.do,
					})
				}
			}
			costs.add(each)
		})
	}
	printPicks("A pick on all cores, ns (alone / with its Done)", all, costs, pickParallel, bothParallel)
	printPicks("A pick on one core, ns (alone / with its Done)", all, costs, pickSerial, bothSerial)
	judgePicks(t, costs)
}

func printPicks(title string, all []policy, costs results, alone, both call) {
	g := newGrid(title, sizesHead(pickSizes, "bytes", "allocations")...)
	for _, p := range all {
		if p.variant {
			continue
		}
		row := []string{p.name}
		var last cost
		for _, n := range pickSizes {
			cell := "-"
			if c, ok := costs[figure{p.name, both.name, n}]; ok {
				last = c
				cell = short(costs[figure{p.name, alone.name, n}].wall) + " / " + short(c.wall)
			}
			row = append(row, cell)
		}
		g.row(append(row, fmt.Sprintf("%.0f", last.bytes), fmt.Sprintf("%.0f", last.allocs))...)
	}
	g.end()
}

func sizesHead(sizes []int, more ...string) []string {
	head := []string{"policy"}
	for _, n := range sizes {
		head = append(head, fmt.Sprintf("n=%d", n))
	}
	return append(head, more...)
}

func judgePicks(t *testing.T, costs results) {
	for _, c := range []call{pickParallel, bothParallel} {
		quick := []string{rollcallRound, rollcallRandom, rollcallWeighted}
		costs.times(c, quick, grpcRoundRobin).atMost(t, 1+noise, "not slower than "+grpcRoundRobin+", "+c.name+":")
		costs.times(c, []string{grpcWeighted}, quick...).atLeast(t, 3, "faster than "+grpcWeighted+", "+c.name+":")
		costs.times(c, peerP2C(), rollcallP2C).atLeast(t, 5, rollcallP2C+" faster than peers, "+c.name+":")
	}
	allocs := figures{}
	for _, p := range policies {
		for _, n := range pickSizes {
			if got, measured := costs[figure{p.name, bothSerial.name, n}]; measured && p.policy == balancer.Name {
				allocs[fmt.Sprintf("%s n=%d", p.name, n)] = got.allocs
			}
		}
	}
	allocs.atMost(t, 0.01, "allocations of a pick with its Done:")
}

func peerP2C() (names []string) {
	for _, p := range policies {
		if strings.Contains(p.name, "p2c") && p.policy != balancer.Name {
			names = append(names, p.name)
		}
	}
	return names
}

// times says how many times the time of others each policy takes, at every size at
// which both were measured.
func (r results) times(c call, of []string, others ...string) figures {
	f := figures{}
	for _, n := range pickSizes {
		for _, name := range of {
			for _, other := range others {
				got, ok := r[figure{name, c.name, n}]
				than, also := r[figure{other, c.name, n}]
				if ok && also {
					f[fmt.Sprintf("%s / %s n=%d", name, other, n)] = got.wall / than.wall
				}
			}
		}
	}
	return f
}
