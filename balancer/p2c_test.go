package balancer

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
)

var fiveMore = []string{"b", "c", "d", "e", "f"}

// atMost checks how many calls of a load an instance got in a time.
func atMost(t *testing.T, calls []*seen, id string, from, to time.Duration, most int) {
	t.Helper()
	if got := between(calls, id, from, to); got > most {
		t.Errorf("from %v to %v, %s got %d of %d calls, want %d at most", from, to, id, got, len(calls), most)
	}
}

// varied answers are as fast as others on average.
func varied(string, time.Duration) answer {
	return answer{after: time.Duration(rand.Int64N(int64(2 * fast.after)))}
}

func TestP2CFollowsLatency(t *testing.T) {
	for what, slow := range map[string]answer{
		"slow":         {after: 100 * time.Millisecond},
		"failing fast": {after: time.Microsecond, err: errUnavailable},
		"silent":       {},
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.up(configWith(P2C{}, withoutStalls), append([]string{"a"}, fiveMore...)...)
			calls := b.load(1000, 21*time.Second, until(5*time.Second, always("a", slow), varied))
			// It is drawn as the only one in two calls of 216, and picked once a second.
			atMost(t, calls, "a", time.Second, 5*time.Second, 4*(1000/100+1))
			if got := between(calls, "a", 20*time.Second, 21*time.Second); got < 110 {
				t.Errorf("15 s after it was %s, a gets %d of 1000 calls, want 167 or so", what, got)
			}
			time.Sleep(deadline)
		})
	}
}

// Of many calls some are timed, which is enough.
func TestP2CTimesSomeOfManyCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(P2C{}, withoutStalls), append([]string{"a"}, fiveMore...)...)
		calls := b.load(30_000, 2*time.Second, until(time.Second, always("a", answer{after: 100 * time.Millisecond}), varied))
		atMost(t, calls, "a", 200*time.Millisecond, time.Second, 2000) // 4000 would be its share
		info := gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: unaryMethod}
		if allocs := testing.AllocsPerRun(10_000, func() {
			if _, err := b.picker.Pick(info); err != nil {
				t.Fatal(err)
			}
		}); allocs > 0.5 {
			t.Errorf("a pick whose call does not end allocates %v times: too many are timed", allocs)
		}
	})
}

// Calls to one connection that are timed at once do not confuse each other, and one after
// another they allocate nothing.
func TestTimedCallsMayOverlap(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(P2C{}, withoutStalls), "a")
		a := b.order[0]
		info := gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: unaryMethod}
		begin := func() (done func(gbalancer.DoneInfo)) {
			a.conn.onPick.Or(takeTime)
			result, err := b.picker.Pick(info)
			if err != nil {
				t.Fatal(err)
			}
			return result.Done
		}
		took := map[int]time.Duration{0: 300 * time.Millisecond, 1: 30 * time.Millisecond, 2: 200 * time.Millisecond}
		for range 3 {
			ended := make(chan int)
			for i, after := range took {
				done := begin()
				go func() {
					time.Sleep(after)
					done(answeredOK)
					ended <- i
				}()
				time.Sleep(5 * time.Millisecond)
			}
			for range took {
				a.tally.peak.Store(0)
				i := <-ended
				if got := time.Duration(a.tally.peak.Load()); got != took[i] {
					t.Errorf("a call that took %v counts as %v", took[i], got)
				}
			}
		}
		if hand := a.tally.inHand(); hand != 0 {
			t.Errorf("%d calls are in hand", hand)
		}
		if allocs := testing.AllocsPerRun(1000, func() { begin()(answeredOK) }); allocs > 0 {
			t.Errorf("a call that is timed allocates %v times", allocs)
		}
	})
}

// What is slow only for those that wait in line, or for unary calls that streams come
// before, is found too, though the first call in a tick is none of these.
func TestP2CLearnsFromMoreThanTheFirst(t *testing.T) {
	for what, first := range map[string]string{"behind a stream": streamMethod, "in line": unaryMethod} {
		for _, listened := range []bool{false, true} { // then each pick is counted
			inBubble(t, func(t *testing.T, b *bed) {
				b.metrics.listened = listened
				b.up(configWith(P2C{}, withoutStalls), fourServers...)
				var calls []*seen
				for burst := range 400 {
					for range 16 {
						b.make(first, 0, healthy)
					}
					for range 24 {
						calls = append(calls, b.make(unaryMethod, time.Duration(burst), always("a", answer{after: 60 * time.Millisecond})))
					}
					time.Sleep(100 * time.Millisecond)
				}
				if got := between(calls, "a", 100, 400); got > 300*24/10 {
					t.Errorf("%s, metrics collected: %v: of %d calls the slow one got %d", what, listened, 300*24, got)
				}
				time.Sleep(deadline)
			})
		}
	}
}

// Where calls are so rare that nobody has been picked lately, the slow one is tried with
// some of them only, and gets its share again when it is slow no more.
func TestP2CWithRareCalls(t *testing.T) {
	for _, n := range []int{2, 4} {
		for _, every := range []time.Duration{700 * time.Millisecond, 1100 * time.Millisecond, 6 * time.Second} {
			inBubble(t, func(t *testing.T, b *bed) {
				b.up(configWith(P2C{}, withoutStalls), fourServers[:n]...)
				got := func(calls int, behave func(string, time.Duration) answer) (got int) {
					for range calls {
						if b.make(unaryMethod, 0, behave).id == "a" {
							got++
						}
						time.Sleep(every)
					}
					return got
				}
				if slow := got(1000, always("a", answer{after: 100 * time.Millisecond})); slow < 10 || slow > 1000/(1+triedOf)+70 {
					t.Errorf("one of %d instances, a call every %v: the slow one got %d of 1000", n, every, slow)
				}
				got(100, healthy)
				if well := got(1000, healthy); well < 700/n {
					t.Errorf("one of %d instances, a call every %v: when it was well again it got %d of 1000", n, every, well)
				}
			})
		}
	}
}

// Each failure makes an instance the less attractive, whether the call was timed or not.
func TestP2CCountsEveryFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(P2C{}), append([]string{"a"}, fiveMore...)...)
		b.load(100, time.Second, func(id string, _ time.Duration) answer {
			if id == "a" { // so much faster that one failure does not outweigh it
				return answer{after: 100 * time.Microsecond}
			}
			return answer{after: 100 * time.Millisecond}
		})
		var failed int
		for range 1000 { // at one moment
			result, err := b.picker.Pick(gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: unaryMethod})
			if err != nil {
				t.Fatal(err)
			}
			if b.idOf(result) == "a" {
				failed++
				result.Done(gbalancer.DoneInfo{Err: errUnavailable, BytesSent: true})
				continue
			}
			result.Done(answeredOK)
		}
		if failed > 20 {
			t.Errorf("a was picked %d times though each call failed", failed)
		}
	})
}

// Of two instances the better one is found, too.
func TestOfTwoTheBetterIsPicked(t *testing.T) {
	for p, most := range map[Picker]int{P2C{}: 20, LeastRequest{ChoiceCount: 2}: 400} {
		inBubble(t, func(t *testing.T, b *bed) {
			b.up(configWith(p, withoutStalls), "a", "b")
			calls := b.load(1000, 5*time.Second, always("a", answer{after: 100 * time.Millisecond}))
			atMost(t, calls, "a", time.Second, 5*time.Second, most)
		})
	}
}

// An instance that is known to be slow is tried about once a second, and not more often.
func TestP2CTriesWhoIsNeglected(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(P2C{}), strings.Split("abcdefghijklmnopqrst", "")...)
		picked, last := 0, time.Duration(0)
		for _, c := range b.load(1000, time.Minute, always("a", answer{after: deadline})) {
			if c.id == "a" {
				picked, last = picked+1, c.at
			} else if c.at-last > 2*neglected { // it must be drawn, too
				t.Fatalf("not picked from %v to %v", last, c.at)
			}
		}
		if picked > 65 {
			t.Errorf("picked %d times in a minute", picked)
		}
	})
}

// What is known of an instance outlives its connection and the picker.
func TestP2CForgetsNothing(t *testing.T) {
	for what, change := range map[string]func(b *bed){
		"the connection flips": func(b *bed) {
			b.sub("a").Set(connectivity.Idle, nil)
			b.ready("a")
		},
		"the connection is another one": func(b *bed) {
			b.fail("a")
			b.resolveWith(configWith(P2C{}), servers(append(fiveMore, "a")...)...)
			b.ready("a")
		},
		"another picker is tried": func(b *bed) {
			b.resolveWith(configWith(RoundRobin{}), servers(append(fiveMore, "a")...)...)
			b.resolveWith(configWith(P2C{}, func(s *settings) { s.zone.Local = "z" }), servers(append(fiveMore, "a")...)...)
			b.pass()
		},
	} {
		inBubble(t, func(t *testing.T, b *bed) {
			slow := always("a", answer{after: 400 * time.Millisecond})
			b.up(configWith(P2C{}), append([]string{"a"}, fiveMore...)...)
			b.load(1000, 3*time.Second, slow)
			time.Sleep(deadline)
			known := b.order[0].tally
			change(b)
			if i := slices.IndexFunc(b.order, func(c *child) bool { return c.id == "a" }); b.order[i].tally != known {
				t.Errorf("%s, and the tally is another one", what)
			}
			atMost(t, b.load(1000, time.Second, slow), "a", 0, time.Second, 30)
			time.Sleep(deadline)
		})
	}
}

// Who has never answered gets no more calls than its load justifies.
func TestP2CDoesNotFloodWhoIsNew(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(P2C{}, withoutStalls), fiveMore...)
		b.load(1000, time.Second, healthy)
		b.resolveWith(configWith(P2C{}, withoutStalls), servers(append(fiveMore, "a")...)...)
		b.ready("a")
		calls := b.load(1000, 500*time.Millisecond, always("a", answer{after: deadline}))
		if got := between(calls, "a", 0, time.Second); got == 0 || got > 20 {
			t.Errorf("a got %d calls before it had answered one, want 1 to 20", got)
		}
		time.Sleep(2 * deadline)
	})
}

// How long a stream lasts says nothing; that it is in hand does.
func TestP2CCountsStreamsByTheirNumber(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(P2C{}), "a", "b", "c")
		open := map[string]int{}
		var dones []func(gbalancer.DoneInfo)
		for range 300 {
			result, err := b.picker.Pick(gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: streamMethod})
			if err != nil {
				t.Fatal(err)
			}
			open[b.idOf(result)]++
			dones = append(dones, result.Done)
		}
		for id, n := range open {
			if n < 95 || n > 105 {
				t.Errorf("%s has %d of 300 streams", id, n)
			}
		}
		time.Sleep(time.Hour)
		for _, done := range dones {
			done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
		}
		for _, c := range b.order {
			if peak, usual, hand := c.tally.peak.Load(), c.tally.usual.Load(), c.tally.inHand(); peak != 0 || usual != 0 || hand != 0 {
				t.Errorf("%s: peak %d, usual %d and %x in hand after streams only", c.id, peak, usual, hand)
			}
		}
	})
}

// Whoever will answer sooner is picked, however long that takes: products do not
// overflow, and shares that differ a lot do not round a call to nothing.
func TestP2CComparesWhatIsLarge(t *testing.T) {
	type state struct {
		weight, hand uint32
		peak         time.Duration
	}
	for _, tt := range []struct{ better, other state }{
		{state{1, 0, time.Second}, state{1, 1, time.Second}},
		{state{1, 0, 1}, state{1, 0, 2}},
		{state{1, 0, math.MaxInt64 - 1}, state{1, 0, math.MaxInt64}},
		{state{1, 1, math.MaxInt64}, state{1, 2, math.MaxInt64}},
		{state{1, maxHand - 1, math.MaxInt64}, state{1, maxHand, math.MaxInt64}},
		{state{1, 1 << 20, time.Hour}, state{1, 0, math.MaxInt64}},
		{state{1, 0, time.Hour}, state{math.MaxUint32, 1 << 20, time.Hour}},
		{state{math.MaxUint32, 1 << 20, time.Hour}, state{1, maxHand, time.Hour}},
		{state{math.MaxUint32, 1, time.Hour}, state{1, 1 << 13, time.Hour}},
		{state{math.MaxUint32, 1, time.Hour}, state{math.MaxUint32, 3, time.Hour}},
		{state{2, 4, time.Second}, state{1, 3, time.Second}},
		{state{1, 2, time.Second}, state{2, 7, time.Second}},
	} {
		s := scheduled(P2C{}, nil, tt.better.weight, tt.other.weight).(*contest)
		for i, state := range []state{tt.better, tt.other} {
			s.all[i].tally.calls.Store(uint64(state.hand))
			s.all[i].tally.peak.Store(int64(state.peak))
		}
		// With weights one may be drawn with itself, and with weights like these nearly
		// always: whoever is drawn with another one must be the better of both.
		s.equal = true
		if got := count(draw(s, 100)); got["a"] != 100 {
			t.Errorf("%+v is to be better than %+v: %v", tt.better, tt.other, got)
		}
	}
}

func TestLatencyIsAPeakThatDecays(t *testing.T) {
	const ms = time.Millisecond
	var tl tally
	for _, step := range []struct {
		now, took time.Duration
		o         outcome
		least     time.Duration
		most      time.Duration
	}{
		{0, 10 * ms, good, 10 * ms, 10 * ms},
		{0, 5 * ms, unsent, 10 * ms, 10 * ms},
		{0, 5 * ms, moot, 10 * ms, 10 * ms},
		{0, 20 * ms, moot, 20 * ms, 20 * ms},                                                 // it would have taken longer
		{0, 50 * ms, good, 50 * ms, 50 * ms},                                                 // follows a slow answer at once
		{peakMemory, 0, good, 18 * ms, 19 * ms},                                              // 1/e is left
		{-time.Hour, 0, good, 18 * ms, 19 * ms},                                              // out of order
		{100 * peakMemory, 10 * ms, good, 10 * ms, 10 * ms},                                  // nothing is left
		{100 * peakMemory, ms, bad, 80 * ms, 80 * ms},                                        // a failure is very slow
		{100 * peakMemory, ms, bad, 640 * ms, 640 * ms},                                      //
		{100 * peakMemory, ms, bad, maxFailure, maxFailure},                                  // but not for ever
		{100 * peakMemory, time.Hour, bad, time.Hour, time.Hour},                             // unless it was
		{1000 * peakMemory, time.Duration(1 << 62), bad, 1 << 62, 1 << 62},                   // no overflow
		{time.Duration(1 << 62), time.Millisecond, good, time.Millisecond, time.Millisecond}, // nor here
	} {
		tl.observe(step.now, step.took, step.o)
		if peak := time.Duration(tl.peak.Load()); peak < step.least || peak > step.most {
			t.Errorf("after %v at %v with outcome %d the peak is %v, want %v to %v", step.took, step.now, step.o, peak, step.least, step.most)
		}
	}
}
