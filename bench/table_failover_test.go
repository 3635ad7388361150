package bench

import (
	"fmt"
	"testing"
)

func failoverTable(t *testing.T) {
	g := newGrid("What is added to a unary call that succeeds at once (stub: without the time in gRPC)",
		"mode", "call", "time", "processor time", "allocations")
	ns, allocs := map[string]float64{}, map[string]float64{}
	for _, mode := range addedModes {
		for _, call := range addedTo {
			a := call.prepare(t, mode.interceptor)
			for range turns {
				a.turn(t)
			}
			g.row(mode.name, call.name, duration(median(a.wall)), duration(median(a.cpu)), fmt.Sprintf("%.1f", median(a.allocs)))
			if call.name == "stub" {
				ns[mode.name], allocs[mode.name] = median(a.wall), median(a.allocs)
			}
		}
	}
	g.end()
	for _, target := range []struct {
		mode       string
		ns, allocs float64
	}{{"failover", 1000, 6}, {"failover+timeout", 2000, 12}} {
		figures{target.mode: ns[target.mode]}.atMost(t, target.ns, "ns that are added to the stub:")
		figures{target.mode: allocs[target.mode]}.atMost(t, target.allocs, "allocations that are added:")
	}
}
