package balancer

import (
	"fmt"
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/registry"
)

// slowly is slow start over ten seconds.
func slowly(change ...func(*SlowStart)) func(*settings) {
	s := SlowStart{Window: Duration(10 * time.Second)}
	for _, c := range change {
		c(&s)
	}
	return func(set *settings) { set.slowStart, _ = s.complete() }
}

// registryClock is some time that has nothing to do with this machine's clock.
var registryClock = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)

// aged is for how long an instance has been in the registry.
func aged(age time.Duration) func(*registry.Instance) {
	return func(i *registry.Instance) {
		i.FirstRegistered, i.LastRenewed = registryClock.Add(-age), registryClock.Add(-time.Second)
		if age < time.Second {
			i.LastRenewed = i.FirstRegistered
		}
	}
}

// wantShare checks which part of the calls an instance gets.
func (b *bed) wantShare(what, id string, want, tolerance float64) {
	b.t.Helper()
	const calls = 10_000
	if got := float64(count(b.picks(b.t.Context(), calls))[id]) / calls; math.Abs(got-want) > tolerance {
		b.t.Errorf("%s: %s gets %.3f of the calls, want %.3f", what, id, got, want)
	}
}

// elapse lets time pass in which calls are made.
func (b *bed) elapse(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		b.picks(b.t.Context(), 1)
		time.Sleep(tickEvery)
	}
}

func TestSlowStart(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		cfg := configWith(p, slowly())
		a, c := server("a", aged(time.Hour)), server("c/2", aged(0))
		b.resolveWith(cfg, a)
		b.ready("a")
		b.resolveWith(cfg, a, c)
		b.elapse(time.Minute) // until it is connected its time does not run
		b.ready("c")
		for _, at := range []struct{ part, factor float64 }{{0, 0.1}, {0.05, 0.1}, {0.3, 0.3}, {0.5, 0.5}, {0.9, 0.9}, {1.02, 1}} {
			b.elapse(time.Duration(at.part*float64(10*time.Second)) - b.now() + b.order[1].connected)
			b.wantShare(p.name(), "c", at.factor/(1+at.factor), 0.03)
		}
		if b.slowing {
			t.Error("still slowing after the end of the window")
		}
		time.Sleep(2 * idleTime)
		if !b.picker.asleep.Load() {
			t.Error("the engine does not sleep after the end of the window")
		}
	})
}

// With many instances a step costs more, and there are fewer of them.
func TestSlowStartOfOneAmongMany(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		insts, ids := []registry.Instance{server("new", aged(0))}, []string{"new"}
		for i := range 1000 {
			insts, ids = append(insts, server(fmt.Sprint(i), aged(time.Hour))), append(ids, fmt.Sprint(i))
		}
		b.resolveWith(configWith(WeightedRoundRobin{}, slowly()), insts...)
		b.ready(ids...)
		seen := map[*snapshot]bool{}
		for range 200 {
			b.elapse(tickEvery)
			seen[b.picker.snapshot.Load()] = true
		}
		if got := len(seen); got < 4 || got > 8 {
			t.Errorf("%d snapshots in 2 s, want one in 300 ms", got)
		}
	})
}

func TestSlowStartIsForNewProcesses(t *testing.T) {
	cfg := configWith(WeightedRoundRobin{}, slowly())
	old := server("a", aged(time.Hour))
	for what, tt := range map[string]struct {
		happens func(b *bed)
		want    float64
	}{
		"new":                         {func(b *bed) { b.resolveWith(cfg, old, server("b/1", aged(time.Second))) }, 0.1 / 1.1},
		"almost as old as the window": {func(b *bed) { b.resolveWith(cfg, old, server("b/1", aged(9*time.Second))) }, 0.1 / 1.1},
		"older than the window":       {func(b *bed) { b.resolveWith(cfg, old, server("b/1", aged(11*time.Second))) }, 0.5},
		"of unknown age":              {func(b *bed) { b.resolveWith(cfg, old, server("b/1")) }, 0.5},
		"all new":                     {func(b *bed) { b.resolveWith(cfg, server("a", aged(0)), server("b/1", aged(0))) }, 0.5},
		"off":                         {func(b *bed) { b.resolveWith(configWith(RoundRobin{}), old, server("b/1", aged(0))) }, 0.5},
		"switched off": {func(b *bed) {
			b.resolveWith(cfg, old, server("b/1", aged(0)))
			b.ready("a", "b")
			b.resolveWith(configWith(RoundRobin{}), old, server("b/1", aged(0)))
		}, 0.5},
		"switched on afterwards": {func(b *bed) {
			b.resolveWith(configWith(RoundRobin{}), old, server("b/1", aged(0)))
			b.resolveWith(cfg, old, server("b/1", aged(0)))
		}, 0.5},
		"restarted before its lease ended": {func(b *bed) {
			b.resolveWith(cfg, server("b/1", aged(time.Hour)))
			b.ready("b")
			b.resolveWith(cfg, old, server("b/2", aged(time.Hour)))
		}, 0.1 / 1.1},
		"only one of the two does not drain": {func(b *bed) { b.resolveWith(cfg, server("a", aged(time.Hour), draining), server("b/1", aged(0))) }, 1},
		"all new, and connected one after the other": {func(b *bed) {
			b.resolveWith(cfg, server("a", aged(0)), server("b/1", aged(0)))
			b.ready("a")
			b.elapse(5 * time.Second)
		}, 0.5},
		"gone for a while": {func(b *bed) {
			b.resolveWith(cfg, old, server("b/1", aged(0)))
			b.ready("a", "b")
			b.resolveWith(cfg, old)
			b.resolveWith(cfg, old, server("b/1", aged(0)))
		}, 0.5},
		"the registry has been restarted": {func(b *bed) {
			b.resolveWith(cfg, old, server("b/1", aged(time.Hour)))
			b.ready("a", "b")
			b.resolveWith(cfg, server("a", aged(0)), server("b/1", aged(0)))
		}, 0.5},
		"its connection flips": {func(b *bed) {
			b.resolveWith(cfg, old, server("b/1", aged(0)))
			b.ready("a", "b")
			b.elapse(5 * time.Second)
			b.sub("b").Set(connectivity.Idle, nil)
			b.elapse(6 * time.Second)
		}, 0.5},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				tt.happens(b)
				b.ready("a", "b")
				b.wantShare(what, "b", tt.want, 0.02)
			})
		})
	}
}

func TestCurveOfSlowStart(t *testing.T) {
	for _, tt := range []struct{ curve, minShare, at, want float64 }{
		{0, 0, 0, 0.1}, {0, 0, 0.5, 0.5}, {0, 0, 0.05, 0.1},
		{2, 0, 0.5, 0.25}, {0.5, 0, 0.25, 0.5}, {2, 0.3, 0.5, 0.3}, {1, 1, 0, 1}, {100, 1e-9, 0.001, 1e-9},
	} {
		s, err := SlowStart{Window: Duration(100 * time.Second), Curve: tt.curve, MinShare: tt.minShare}.complete()
		if err != nil {
			t.Fatal(err)
		}
		if got := s.factor(time.Duration(tt.at * float64(100*time.Second))); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%+v: at %v of the window the factor is %v", tt, tt.at, got)
		}
	}
}

// A share that is as good as nothing is some calls all the same.
func TestTinySharesAreSomeCalls(t *testing.T) {
	for _, p := range []Picker{RoundRobin{}, WeightedRoundRobin{}} {
		inBubble(t, func(t *testing.T, b *bed) {
			cfg := configWith(p, slowly(func(s *SlowStart) { s.MinShare = 1e-300 }))
			b.resolveWith(cfg, server("a", aged(time.Hour), weighing(math.MaxUint32)), server("b", aged(0)))
			b.ready("a", "b")
			if got := count(b.picks(t.Context(), 1000)); got["b"] == 0 {
				t.Errorf("%s picked %v", p.name(), got)
			}
		})
	}
}
