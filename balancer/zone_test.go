package balancer

import (
	"fmt"
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/registry"
)

func local(zone string) func(*settings) {
	return func(s *settings) { s.zone, _ = Zone{Local: zone}.complete() }
}

// zoned are ten instances in each zone, called x0 to x9 in zone x.
func zoned(zones ...string) (insts []registry.Instance, ids []string) {
	for _, zone := range zones {
		for i := range 10 {
			id := fmt.Sprint(zone, i)
			insts, ids = append(insts, server(id, in(zone))), append(ids, id)
		}
	}
	return insts, ids
}

// zoneShare is which part of the calls instances get whose ID begins with zone.
func (b *bed) zoneShare(zone string) float64 {
	b.t.Helper()
	const calls = 10_000
	n := 0
	for range calls / 100 {
		for _, id := range b.picks(b.t.Context(), 100) {
			if id[:1] == zone {
				n++
			}
		}
		time.Sleep(200 * time.Microsecond) // so that no picks are made in runs
	}
	return float64(n) / calls
}

func (b *bed) wantZoneShare(what, zone string, want float64) {
	b.t.Helper()
	// Scaling costs some, and random pickers may be off by five standard deviations.
	if got := b.zoneShare(zone); math.Abs(got-want) > 0.025 || (want == 0 || want == 1) && got != want {
		b.t.Errorf("%s: zone %s gets %.3f of the calls, want %.3f", what, zone, got, want)
	}
}

func TestZoneSpillsWhatItCannotBear(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		insts, ids := zoned("x", "y", "z")
		b.resolveWith(configWith(p, local("x")), insts...)
		b.ready(ids...)
		for lost, want := range map[int]float64{0: 1, 2: 1, 3: 0.98, 5: 0.7, 9: 0.14, 10: 0} {
			for i := range lost {
				b.sub(ids[i]).Set(connectivity.Connecting, nil)
			}
			b.pass()
			b.wantZoneShare(fmt.Sprintf("without %d of 10", lost), "x", want)
			for i := range lost {
				b.sub(ids[i]).Set(connectivity.Ready, nil)
			}
			b.pass()
		}
		b.wantZoneShare("all back", "x", 1)
		b.resolveWith(configWith(p), insts...)
		b.wantZoneShare("switched off", "x", 1./3)
		b.resolveWith(configWith(p, local("y")), insts...)
		b.wantZoneShare("moved", "y", 1)
	})
}

func TestZoneKeepsWhatItCanBear(t *testing.T) {
	weigh := func(weights map[string]uint32) []registry.Instance {
		insts, _ := zoned("x", "y", "z")
		for i := range insts {
			insts[i].Weight = weights[insts[i].ID[:1]]
		}
		return insts
	}
	inBubble(t, func(t *testing.T, b *bed) {
		_, ids := zoned("x", "y", "z")
		cfg := configWith(WeightedRoundRobin{}, local("x"))
		b.resolveWith(cfg, weigh(map[string]uint32{"x": 1, "y": 2, "z": 2})...)
		b.ready(ids...)
		b.wantZoneShare("a small zone", "x", 1.4*1*3/5)
		b.wantZoneShare("the next", "y", (1-1.4*1*3/5)/2)
		b.resolveWith(cfg, weigh(map[string]uint32{"x": 3, "y": 2, "z": 1})...)
		b.wantZoneShare("a large zone", "x", 1)
		b.resolveWith(cfg, weigh(map[string]uint32{"x": 1, "y": math.MaxUint32, "z": 1})...)
		b.wantZoneShare("a tiny zone", "y", 0.99) // everybody gets some
		b.resolveWith(cfg, weigh(map[string]uint32{"x": math.MaxUint32, "y": 1, "z": 1})...)
		b.wantZoneShare("a huge zone", "x", 1)
		// Who drains is neither needed nor counted.
		drained := weigh(map[string]uint32{"x": 1, "y": 1, "z": 1})
		for i := range 5 {
			drained[i].Status, drained[10+i].Status, drained[20+i].Status = registry.Draining, registry.Draining, registry.Draining
		}
		b.resolveWith(cfg, drained...)
		b.wantZoneShare("half of everything drains", "x", 1)
		for i := 5; i < 10; i++ {
			drained[i].Status = registry.Draining
		}
		b.resolveWith(cfg, drained...)
		b.wantZoneShare("the zone drains", "x", 0)
		for i := range drained {
			drained[i].Status = registry.Draining
		}
		b.resolveWith(cfg, drained...)
		b.wantZoneShare("everything drains", "x", 1./3)
	})
}

func TestZonesThatDoNotMatter(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		insts, ids := zoned("x", "y")
		b.resolveWith(configWith(p, local("elsewhere")), insts...)
		b.ready(ids...)
		b.wantZoneShare("no instance here", "x", 0.5)
		insts, _ = zoned("x")
		b.resolveWith(configWith(p, local("x")), insts...)
		b.wantZoneShare("one zone", "x", 1)
		for i := range 8 {
			b.sub(ids[i]).Set(connectivity.Connecting, nil)
		}
		b.pass()
		b.wantZoneShare("most of the only zone lost", "x", 1)
	})
}

// What a call asks for, and health, weigh more than the zone.
func TestHintsAndZones(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		cfg := configWith(p, local("here"), ejecting())
		here, too, there := server("a", in("here")), server("b", in("here")), server("c", in("there"))
		b.resolveWith(cfg, here, too, there)
		b.ready("a", "b", "c")
		first := func(avoid ...string) string {
			ctx, rec := b.recorded()
			for _, id := range avoid {
				rec.Avoid(id)
			}
			return b.picks(ctx, 1)[0]
		}
		for range 20 {
			if got := first("a"); got != "b" {
				t.Fatalf("avoiding a, picked %s, want the other one here", got)
			}
			if got := first("a", "b"); got != "c" {
				t.Fatalf("avoiding both here, picked %s", got)
			}
			if got := first("a", "b", "c"); got == "c" {
				t.Fatal("avoiding all, picked the distant one")
			}
			ctx, rec := b.recorded()
			rec.Pin("c")
			if got := b.picks(ctx, 1); got[0] != "c" {
				t.Fatalf("pinned c, picked %s", got)
			}
		}
		draining(&here)
		draining(&too)
		b.resolveWith(cfg, here, too, there)
		if got := first(); got != "c" {
			t.Errorf("picked %s, which drains", got)
		}
		if got := first("c"); got == "c" {
			t.Error("picked c, which is avoided, rather than one here that drains")
		}
	})
}
