package balancer

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/pick"
)

var fourServers = []string{"a", "b", "c", "d"}

// frozen is an instance that answers nothing from one time to another.
func frozen(id string, from, to time.Duration) behaviour {
	return until(from, healthy, until(to, always(id, answer{}), healthy))
}

// Each of four servers is stopped for three seconds, one after the other, under
// 2,000 calls a second: the load of the test with real processes.
func TestFrozenInstancesCostFewCalls(t *testing.T) {
	for picker, most := range map[Picker]int{RoundRobin{}: 200, P2C{}: 40} {
		t.Run(fmt.Sprintf("%T", picker), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.up(configWith(picker), fourServers...)
				var all []*seen
				for _, id := range fourServers {
					calls := b.load(2000, 9*time.Second, frozen(id, time.Second, 4*time.Second))
					all = append(all, calls...)
					if n := between(calls, id, 1500*time.Millisecond, 4*time.Second); n > 5 {
						t.Errorf("%s got %d calls while it was avoided", id, n)
					}
					if n := between(calls, id, 8*time.Second, 9*time.Second); n < 300 {
						t.Errorf("%s got %d of 2000 calls when it was back", id, n)
					}
				}
				if n := lost(all); n > most {
					t.Errorf("%d calls were lost, want at most %d", n, most)
				} else {
					t.Logf("%d of %d calls were lost", n, len(all))
				}
			})
		})
	}
}

func TestWithoutStallDetectionAFrozenInstanceCostsItsShare(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}, withoutStalls), fourServers...)
		if n := lost(b.load(2000, 5*time.Second, frozen("a", time.Second, 4*time.Second))); n != 1500 {
			t.Errorf("%d calls were lost, want a quarter of three seconds' calls", n)
		}
	})
}

// That an attempt ran out of time is no sign of life.
func TestAttemptsThatTimeOutAreNoAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		b.load(2000, time.Second, healthy)
		late := 0
		for i := range 6000 {
			rec, _ := b.recorded()
			ctx, cancel := context.WithTimeoutCause(rec, 300*time.Millisecond, pick.ErrTimeout)
			defer cancel()
			result, err := b.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: ctx, FullMethodName: unaryMethod})
			if err != nil {
				t.Fatal(err)
			}
			if b.idOf(result) != "a" {
				time.AfterFunc(5*time.Millisecond, func() {
					result.Done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
				})
			} else {
				context.AfterFunc(ctx, func() { result.Done(gbalancer.DoneInfo{Err: errDeadline, BytesSent: true}) })
				if i > 2000 {
					late++
				}
			}
			time.Sleep(time.Second / 2000)
		}
		if late > 5 {
			t.Errorf("a silent instance got %d calls while it should have been avoided", late)
		}
	})
}

// A call that waits by itself says little: it may be a slow one.
func TestPatience(t *testing.T) {
	cfg := defaultSettings().stall
	for _, tt := range []struct {
		usual   time.Duration
		waiting uint32
		want    time.Duration
	}{
		{5 * time.Millisecond, 8, 50 * time.Millisecond},
		{5 * time.Millisecond, 1000, 50 * time.Millisecond},
		{5 * time.Millisecond, 4, 100 * time.Millisecond},
		{5 * time.Millisecond, 1, 400 * time.Millisecond},
		{time.Microsecond, 8, 50 * time.Millisecond},
		{200 * time.Millisecond, 8, time.Second},
		{0, 8, 500 * time.Millisecond},
	} {
		if got := cfg.patience(tt.usual, tt.waiting); got != tt.want {
			t.Errorf("%d calls wait where %v is usual: %v, want %v", tt.waiting, tt.usual, got, tt.want)
		}
	}
	if got := (StallDetection{Times: 1e6}).patience(time.Hour, 1); got < 100*365*24*time.Hour {
		t.Errorf("the longest patience is %v", got)
	}
}

// those are the instances that are so.
func (b *bed) those(are func(*child) bool) (ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.order {
		if are(c) {
			ids = append(ids, c.id)
		}
	}
	return ids
}

func (c *child) suspected() bool { return c.health.suspect }

func (b *bed) wantSuspects(want ...string) {
	b.t.Helper()
	if got := b.those((*child).suspected); !slices.Equal(got, want) {
		b.t.Errorf("suspects %v, want %v", got, want)
	}
}

func TestSlowIsNotStalled(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		slow := func(id string, at time.Duration) answer {
			if id == "a" {
				return answer{after: 300 * time.Millisecond}
			}
			return fast
		}
		b.load(20, 10*time.Second, slow)
		b.wantSuspects()
		b.load(1000, 10*time.Second, slow)
		b.wantSuspects()
	})
}

// Streams may be silent for hours, and so may calls of which nothing is known.
func TestIdleStreamsAreNoStall(t *testing.T) {
	for _, method := range []string{streamMethod, "/unknown.Service/Method"} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.up(configWith(RoundRobin{}), fourServers...)
			for range 1000 {
				b.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: method})
			}
			b.load(100, time.Minute, healthy)
			b.wantSuspects()
			for range 60 {
				b.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: method})
				time.Sleep(time.Second)
			}
			b.wantSuspects()
		})
	}
}

// What callers give up themselves says nothing.
func TestCancelledCallsAreNoStall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		b.load(1000, time.Second, healthy)
		for range 3000 {
			result, err := b.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: unaryMethod})
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Millisecond, func() {
				result.Done(gbalancer.DoneInfo{Err: status.Error(codes.Canceled, ""), BytesSent: true})
			})
			time.Sleep(time.Millisecond)
		}
		b.wantSuspects()
	})
}

func TestAllFrozen(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		all := func(string, time.Duration) answer { return answer{} }
		calls := b.load(1000, 10*time.Second, until(time.Second, healthy, until(6*time.Second, all, healthy)))
		for _, id := range fourServers {
			if n := between(calls, id, 9*time.Second, 10*time.Second); n < 200 {
				t.Errorf("%s got %d of 1000 calls at the end", id, n)
			}
		}
		for _, c := range calls {
			if c.at > 6*time.Second && c.lost {
				t.Fatalf("a call is lost at %v", c.at)
			}
		}
		b.wantSuspects()
	})
}

// A new connection is a new beginning.
func TestReconnectEndsAStall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		b.load(1000, 2*time.Second, frozen("a", time.Second, time.Hour))
		b.wantSuspects("a")
		sub := b.sub("a")
		sub.Set(0, nil) // idle
		synctest.Wait()
		b.ready("a")
		b.wantSuspects()
		if n := between(b.load(1000, time.Second, healthy), "a", 0, time.Second); n < 240 {
			t.Errorf("a got %d of 1000 calls", n)
		}
	})
}

// A process that was stopped itself has read nobody's answers.
func TestOwnPauseIsNoStall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), fourServers...)
		b.load(1000, time.Second, healthy)
		time.Sleep(50 * time.Millisecond) // all is answered
		c := b.find("a", "")
		b.mu.Lock()
		c.health.pulse = pulse{heard: b.now() - time.Second, asked: true, watching: true}
		for range 8 {
			c.tally.enter(unaryCall)
		}
		b.due -= time.Second // the next tick finds itself late
		b.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
		b.wantSuspects()
		time.Sleep(50 * time.Millisecond)
		b.wantSuspects("a")
		for range 8 {
			c.tally.leave(unaryCall)
		}
	})
}

// Nothing ticks where no calls are made.
func TestTicksSleep(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		awake := func(want bool) {
			t.Helper()
			b.mu.Lock()
			defer b.mu.Unlock()
			if got := b.ticker != nil; got != want {
				t.Errorf("awake is %v, want %v", got, want)
			}
		}
		b.up(configWith(RoundRobin{}), fourServers...)
		awake(false)
		b.load(100, 100*time.Millisecond, healthy)
		awake(true)
		time.Sleep(2 * idleTime)
		awake(false)
		b.load(100, 100*time.Millisecond, healthy)
		awake(true)
	})
}

// A suspect is no reason to stay awake.
func TestTicksSleepWithASuspect(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolveWith(configWith(RoundRobin{}, ejecting(func(e *Ejection) { e.ConsecutiveFailures = 5 })), servers("a", "b", "c")...)
		b.ready("a", "b", "c")
		for range 15 {
			id, done, _ := b.call(t.Context())
			if id == "a" {
				done(unavailable)
			} else {
				done(answeredOK)
			}
		}
		time.Sleep(time.Hour)
		if !b.picker.asleep.Load() {
			t.Error("an hour without calls, and still a tick every 10 ms")
		}
	})
}

// Nor is a call that its caller has given up.
func TestTicksSleepAfterACallThatWasGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), "a")
		b.load(100, 10*time.Millisecond, always("a", answer{}))
		time.Sleep(time.Hour)
		if !b.picker.asleep.Load() {
			t.Error("an hour without calls, and the engine is awake")
		}
	})
}

// The time without calls, without stall detection or before the connection is no
// silence.
func TestPauseBetweenCallsIsNoStall(t *testing.T) {
	usual := func(string, time.Duration) answer { return answer{after: 100 * time.Millisecond} }
	for _, p := range []Picker{RoundRobin{}, P2C{}} {
		t.Run(p.name(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				b.up(configWith(p), "a", "b")
				for range 3 {
					time.Sleep(time.Hour)
					for range 20 {
						b.load(200, 10*time.Millisecond, usual)
						b.wantSuspects()
					}
				}
				b.load(200, time.Second, usual)
				b.resolveWith(configWith(p, withoutStalls), servers("a", "b")...)
				b.load(200, 10*time.Second, usual)
				time.Sleep(150 * time.Millisecond) // all is answered
				b.resolveWith(configWith(p), servers("a", "b")...)
				for range 20 {
					b.load(200, 10*time.Millisecond, usual)
					b.wantSuspects()
				}
				b.resolveWith(configWith(p), servers("a", "b", "new")...)
				b.load(200, time.Second, usual)
				b.ready("new")
				for range 20 {
					b.load(200, 10*time.Millisecond, usual)
					b.wantSuspects()
				}
			})
		})
	}
}

// An instance is heard from by any of its answers, also if none comes to the calls that are
// timed.
func TestAnswersToOtherCallsEndAStall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), "a", "b")
		b.load(200, time.Second, healthy)
		for range 500 {
			for range b.those(func(c *child) bool { return c.conn.onPick.Load()&takeTime != 0 }) {
				b.start(unaryMethod) // in turn, and not answered
			}
			for range 4 {
				b.start(unaryMethod).Done(answeredOK)
			}
			time.Sleep(20 * time.Millisecond)
		}
		b.wantSuspects()
	})
}
