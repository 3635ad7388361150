package bench

import (
	"fmt"
	"testing"
)

const (
	// dials is how often each client is set up anew: two of the same differ, by where
	// in memory what they use lies, as much as some of those that are compared.
	dials = 60
	// turns is how often each of them takes turns with the plain one.
	turns = 20
)

func unaryTable(t *testing.T) {
	servers := newServers(t)
	comparisons := map[string][]*comparison{}
	for _, s := range subjects {
		for _, inflight := range inflights {
			comparisons[s.name] = append(comparisons[s.name], &comparison{inflight: inflight})
		}
	}
	for dial := range dials {
		t.Run(fmt.Sprint(dial), func(t *testing.T) { // closes the clients
			for _, s := range subjects {
				pair := servers.pair(t, s, dial%2 == 1)
				for _, c := range comparisons[s.name] {
					c.pair = pair
				}
			}
			for range turns {
				for _, s := range subjects {
					for _, c := range comparisons[s.name] {
						c.turn(t)
					}
				}
			}
		})
	}
	g := newGrid("A unary call, relative to "+plain.name+" with a manual resolver", "client", "in flight", "time", "processor time", "plain")
	for _, s := range subjects {
		for _, c := range comparisons[s.name] {
			g.row(s.name, fmt.Sprint(c.inflight), fmt.Sprintf("%.3f", median(c.wall)), fmt.Sprintf("%.3f", median(c.cpu)), duration(median(c.plain)))
		}
	}
	g.end()
	f := figures{}
	for _, c := range comparisons[everything] {
		at := fmt.Sprintf("%s, %d in flight", everything, c.inflight)
		f[at], f[at+" (processor time)"] = median(c.wall), median(c.cpu)
	}
	f.atMost(t, 1.03, "unary call, relative to "+plain.name+":")
}
