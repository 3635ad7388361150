package bench

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/balancer"
)

const bringUp = "bring-up"

func setTable(t *testing.T) {
	costs := results{}
	for _, n := range setSizes {
		measureBringUp(t, costs, n)
		for _, c := range changes {
			measureChange(t, costs, c, n)
		}
	}
	printSets(bringUp, costs)
	for _, c := range changes {
		printSets(c.name, costs)
	}
	judgeSets(t, costs)
}

func printSets(what string, costs results) {
	g := newGrid("Sets of n endpoints, "+what+": time / processor time, with what is done later", sizesHead(setSizes, "bytes at most n")...)
	for _, p := range policies {
		if p.variant {
			continue
		}
		row := []string{p.name}
		var last cost
		for _, n := range setSizes {
			cell := "-"
			if c, ok := costs[figure{p.name, what, n}]; ok {
				last = c
				cell = duration(c.wall) + " / " + duration(c.cpu)
			}
			row = append(row, cell)
		}
		g.row(append(row, size(last.bytes))...)
	}
	g.end()
}

func measureBringUp(t *testing.T, costs results, n int) {
	var each []*measured
	for _, p := range policies {
		if !p.variant && (p.brings(n) || p.name == grpcRoundRobin) {
			up := newUpbringing(t, p, n)
			each = append(each, &measured{figure: figure{p.name, bringUp, n}, prepare: collect, do: clocked(up.bringUp), rest: up.settle})
		}
	}
	costs.add(each)
}

func measureChange(t *testing.T, costs results, c change, n int) {
	t.Run(fmt.Sprintf("%s/%d", c.name, n), func(t *testing.T) { // closes the policies
		var each []*measured
		for _, p := range policies {
			if p.variant || !p.picks(n) {
				continue
			}
			bed := ready(t, p, n)
			do := c.of(t, bed, n)
			if c.name == "same" && p.policy == balancer.Name {
				published := bed.cc.Published()
				do(10)
				time.Sleep(settle)
				if bed.cc.Published() != published {
					t.Errorf("%s publishes pickers for the same set", p.name)
				}
			}
			each = append(each, &measured{figure: figure{p.name, c.name, n}, prepare: collect, do: clocked(do), rest: func() { time.Sleep(settle) }})
		}
		costs.add(each)
	})
}

// collect collects the garbage before a measurement, so that nobody pays for that of
// others.
func collect() { runtime.GC() }

func judgeSets(t *testing.T, costs results) {
	costs.faster(t, 50, bringUp, 10_000)
	costs.faster(t, 20, "same", 10_000)
	costs.faster(t, 40, "changed", 10_000)
	costs.faster(t, 50, "flapped", 10_000)
	for _, what := range []string{bringUp, "same", "changed", "flapped"} {
		costs.faster(t, 1-noise, what, 10)
	}
	fewer, growth := figures{}, figures{}
	for _, name := range ours() {
		many, few := costs[figure{name, bringUp, 10_000}], costs[figure{name, bringUp, 100}]
		fewer[name] = costs[figure{grpcRoundRobin, bringUp, 10_000}].bytes / many.bytes
		growth[name] = many.wall / few.wall / 100
		growth[name+" (processor time)"] = many.cpu / few.cpu / 100
	}
	fewer.atLeast(t, 100, "fewer bytes than "+grpcRoundRobin+", bring-up, n=10000:")
	growth.atMost(t, 3, "cost of one endpoint of 10000, relative to one of 100:")
}

// faster judges how many times faster than grpc-go's round_robin the policies are.
func (r results) faster(t *testing.T, limit float64, what string, n int) {
	f, theirs := figures{}, r[figure{grpcRoundRobin, what, n}]
	for _, name := range ours() {
		got, ok := r[figure{name, what, n}]
		if !ok {
			continue
		}
		f[name] = theirs.wall / got.wall
		f[name+" (processor time)"] = theirs.cpu / got.cpu
	}
	f.atLeast(t, limit, fmt.Sprintf("faster than %s, %s, n=%d:", grpcRoundRobin, what, n))
}

func ours() (names []string) {
	for _, p := range policies {
		if p.policy == balancer.Name && !p.variant {
			names = append(names, p.name)
		}
	}
	return names
}
