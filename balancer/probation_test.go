package balancer

import (
	"testing"
	"testing/synctest"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/registry"
)

// One that was connected anew after it said that it closes is tried first.
func TestProbationAfterClosing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		insts := []registry.Instance{server("a/1"), server("b/1"), server("c/1")}
		b.resolveWith(configWith(RoundRobin{}), insts...)
		b.ready("a", "b", "c")
		closes := func() {
			for range 3 {
				id, done, err := b.call(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				info := gbalancer.DoneInfo{BytesSent: true, BytesReceived: true}
				if id == "a" {
					info.Trailer = drain.Closing("a", "1")
				}
				done(info)
			}
		}
		closes()
		b.load(100, time.Second, func(id string, _ time.Duration) answer {
			if id == "a" {
				t.Error("a got a call though it closes, and its connection lives")
			}
			return fast
		})
		reconnect := func() {
			b.sub("a").Set(connectivity.Idle, nil)
			synctest.Wait()
			b.ready("a")
		}
		reconnect()
		calls := b.load(1000, 10*time.Second, healthy)
		if n := between(calls, "a", 0, 30*time.Millisecond); n > 4 { // one a tick
			t.Errorf("a got %d of the first 30 calls", n)
		}
		if n := between(calls, "a", 9*time.Second, 10*time.Second); n < 330 {
			t.Errorf("a got %d of 1000 calls after its trials succeeded", n)
		}
		// A list that forgets it and names it again changes nothing.
		closes()
		b.resolveWith(configWith(RoundRobin{}), insts[1:]...)
		b.resolveWith(configWith(RoundRobin{}), insts...)
		if c := b.find("a", "1"); !c.closing.Load() {
			t.Error("a stale list has brought it back")
		}
	})
}

func TestAnotherPickerKeepsProbation(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a", "b")...)
		b.ready("a", "b")
		c := b.children["a"][0]
		b.closing(c)
		b.sub("a").Set(connectivity.Idle, nil)
		b.sub("a").Ready()
		b.pass()
		if !c.health.suspect {
			t.Fatal("not on probation")
		}
		b.resolve(Random{}, servers("a", "b")...)
		if !c.health.suspect {
			t.Error("another picker has ended the probation")
		}
	})
}

// One on probation that fails is left alone for a while, also with ejection off.
func TestProbationThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		b.closing(b.find("a", ""))
		b.sub("a").Set(connectivity.Idle, nil)
		synctest.Wait()
		b.ready("a")
		if n := between(b.load(100, 10*time.Second, always("a", refusing)), "a", 0, time.Minute); n != 3 {
			t.Errorf("a was tried %d times in ten seconds, want at once, after 2 and after 6", n)
		}
	})
}

// A server that closes says so: that is no failure.
func TestClosingIsNoFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolveWith(configWith(RoundRobin{}, ejecting()), server("a/1"), server("b/1"))
		b.ready("a", "b")
		for range 20 {
			id, done, err := b.call(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			info := gbalancer.DoneInfo{BytesSent: true, BytesReceived: true}
			if id == "a" {
				info.Err, info.Trailer = errUnavailable, drain.NotExecuted("a", "1")
			}
			done(info)
		}
		b.wantSuspects()
		b.wantPicks(10, map[string]int{"b": 10})
	})
}
