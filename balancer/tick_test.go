package balancer

import (
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"
)

// A pick that is made while the engine falls asleep is not overlooked: it may have
// seen the engine awake.
func TestPickWhileFallingAsleep(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), "a")
		b.order[0].conn.onPick.And(^takeTime)
		b.mu.Lock()
		asleep := b.fallAsleep()
		b.mu.Unlock()
		if asleep {
			t.Error("the engine sleeps and nobody will wake it")
		}
	})
}

// What was left of a pick when the connection was lost does not keep the next one
// from being seen.
func TestPickAfterAReconnectWakes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), "a")
		b.picks(t.Context(), 1)
		b.sub("a").Set(connectivity.Idle, nil)
		time.Sleep(2 * idleTime)
		if !b.picker.asleep.Load() {
			t.Fatal("without connections and calls the engine does not sleep")
		}
		b.ready("a")
		b.picks(t.Context(), 1)
		if b.picker.asleep.Load() {
			t.Error("a pick has not woken the engine")
		}
	})
}

// An instance that is out of order for days is tried as rarely as documented.
func TestTimesDoNotOverflow(t *testing.T) {
	for _, base := range []time.Duration{1, time.Second, 10 * time.Second, time.Hour, 1000 * time.Hour} {
		e := Ejection{BaseTime: Duration(base), MaxTime: Duration(max(base, time.Hour))}
		before := time.Duration(0)
		for n := 1; n < 200; n++ {
			lasts := e.lasts(n)
			if lasts < before || lasts > time.Duration(e.MaxTime) || lasts < base {
				t.Fatalf("after %v, ejection %d of a base time of %v lasts %v", before, n, base, lasts)
			}
			before = lasts
		}
		if before != time.Duration(e.MaxTime) {
			t.Errorf("with a base time of %v ejections last %v in the end, want %v", base, before, time.Duration(e.MaxTime))
		}
	}
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), "a", "b")
		b.mu.Lock()
		b.stall(b.order[0], b.now())
		b.mu.Unlock()
		for range 200 {
			b.tried(underWay(b.order[0]), moot)
		}
		if wait := b.order[0].health.until - b.now(); wait != maxStalledTrial {
			t.Errorf("after 200 trials in vain the next one is in %v, want %v", wait, maxStalledTrial)
		}
	})
}

// underWay is a trial of c.
func underWay(c *child) *trial {
	c.health.trial = &trial{conn: c.conn}
	return c.health.trial
}

// How the trial of an instance ends that is gone by then changes nothing: its
// connection may still be in the snapshot.
func TestTrialOfARemovedInstance(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		cfg := configWith(RoundRobin{}, func(s *settings) { s.ejection.Trials = 1 })
		b.up(cfg, "a", "b")
		gone := b.order[0]
		b.mu.Lock()
		b.eject(gone, b.now(), 1, "for the test")
		b.mu.Unlock()
		b.pass()
		b.resolveWith(cfg, servers("b")...)
		b.tried(underWay(gone), good)
		if rank := gone.conn.rank.Load(); rank != rankLost {
			t.Errorf("the removed connection has rank %d, as if it were ready", rank)
		}
	})
}

// An instance that is taken out at a tick starts no second series of ticks.
func TestOneSeriesOfTicks(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		b.load(2000, 2*time.Second, frozen("a", time.Second, 4*time.Second))
		b.wantSuspects("a")
		b.mu.Lock()
		if b.ticker.Stop() {
			b.goroutines.Done()
		}
		b.mu.Unlock()
		before := b.picker.clock.Load()
		time.Sleep(time.Second)
		if b.picker.clock.Load() != before {
			t.Error("another timer ticks as well")
		}
	})
}
