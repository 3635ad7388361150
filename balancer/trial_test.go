package balancer

import (
	"testing"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
)

// nextTrial makes unary calls until one goes to a, which is left in hand.
func (b *bed) nextTrial(within time.Duration) (done func(gbalancer.DoneInfo)) {
	b.t.Helper()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		result, err := b.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: b.t.Context(), FullMethodName: unaryMethod})
		if err != nil || time.Since(began) > within {
			b.t.Fatalf("no trial in %v, %v", within, err)
		}
		if b.idOf(result) == "a" {
			return result.Done
		}
		result.Done(answeredOK)
	}
}

// onTrial runs test with a first trial of a under way.
func onTrial(t *testing.T, trials uint32, test func(b *bed, first func(gbalancer.DoneInfo))) {
	t.Helper()
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, ejecting(func(e *Ejection) { e.Trials = trials }), withoutStalls), fourServers...)
		b.load(1000, time.Second, always("a", refusing))
		b.wantSuspects("a")
		test(b, b.nextTrial(time.Minute))
	})
}

// A trial that takes minutes does not keep an instance out for so long: another one
// takes its place, and what becomes of it says nothing any more.
func TestTrialThatDoesNotEnd(t *testing.T) {
	onTrial(t, 3, func(b *bed, first func(gbalancer.DoneInfo)) {
		b.load(100, 9*time.Second, healthy)
		b.wantSuspects("a")
		b.load(100, 2*time.Second, healthy)
		b.wantSuspects()
	})
	onTrial(t, 1, func(b *bed, first func(gbalancer.DoneInfo)) {
		b.load(100, 9900*time.Millisecond, healthy)
		b.nextTrial(time.Second)(unavailable)
		first(answeredOK)
		b.wantSuspects("a")
	})
	onTrial(t, 3, func(b *bed, first func(gbalancer.DoneInfo)) { // one at a time
		b.load(100, 9900*time.Millisecond, healthy)
		b.nextTrial(time.Second)
		first(answeredOK)
		if calls := b.load(100, 9*time.Second, healthy); between(calls, "a", 0, time.Minute) > 0 {
			t.Error("a got a call beside its trial")
		}
	})
	onTrial(t, 3, func(b *bed, first func(gbalancer.DoneInfo)) { // and only streams follow
		for range 4000 {
			b.make(streamMethod, 0, healthy)
			if time.Sleep(10 * time.Millisecond); b.now() > 15*time.Second {
				first(answeredOK)
				first = func(gbalancer.DoneInfo) {}
			}
		}
		b.wantSuspects()
	})
}

// Where calls are rare, the time between the offer and the call is not the trial's.
func TestTrialsOfRareCalls(t *testing.T) {
	for _, every := range []time.Duration{5 * time.Second, 15 * time.Second, time.Minute} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.up(configWith(RoundRobin{}, ejecting(), withoutStalls), fourServers...)
			b.load(1000, time.Second, always("a", refusing))
			for range 6 {
				var dones []func(gbalancer.DoneInfo)
				for range 8 {
					result, err := b.picker.Pick(gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: unaryMethod})
					if err != nil {
						t.Fatal(err)
					}
					dones = append(dones, result.Done)
				}
				time.Sleep(50 * time.Millisecond)
				for _, done := range dones {
					done(answeredOK)
				}
				time.Sleep(every)
			}
			if b.wantSuspects(); t.Failed() {
				t.Logf("with calls every %v", every)
			}
		})
	}
	inBubble(t, func(t *testing.T, b *bed) { // and one trial at a time
		b.up(configWith(RoundRobin{}, ejecting(), withoutStalls), fourServers...)
		b.load(1000, time.Second, always("a", refusing))
		b.mu.Lock()
		c := b.find("a", "")
		c.health.trial = &trial{conn: c.conn, offered: b.now() - 15*time.Second}
		b.picker.trial.Store(c.health.trial)
		b.mu.Unlock()
		b.nextTrial(time.Second)
		if calls := b.load(100, 9*time.Second, healthy); between(calls, "a", 0, time.Minute) > 0 {
			t.Error("a got a call beside its trial")
		}
	})
}
