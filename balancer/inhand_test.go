package balancer

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
)

// start picks for a call and leaves it in hand.
func (b *bed) start(method string) gbalancer.PickResult {
	b.t.Helper()
	return b.startWith(b.t.Context(), method)
}

func (b *bed) startWith(ctx context.Context, method string) gbalancer.PickResult {
	b.t.Helper()
	result, err := b.picker.Pick(gbalancer.PickInfo{Ctx: ctx, FullMethodName: method})
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// What a call's record says of its kind holds also where its method is the expected one.
func TestRecordSaysTheKindOfTheExpectedMethod(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(LeastRequest{ChoiceCount: 2}), "a")
		for range 2 { // the first one is looked at, and its method expected
			b.start(streamMethod).Done(answeredOK)
		}
		ctx, rec := b.recorded()
		rec.SetUnary()
		if _, err := b.picker.Pick(gbalancer.PickInfo{Ctx: ctx, FullMethodName: streamMethod}); err != nil {
			t.Fatal(err)
		}
		if got := b.find("a", "").tally.waiting(); got != 1 {
			t.Errorf("%d unary calls are in hand, want 1", got)
		}
	})
}

// An instance that came later than those that it is like is not ejected for it, where
// calls take nearly an interval.
func TestLaterIsNotFailing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		const perSecond = 800
		rng := rand.New(rand.NewPCG(5, 6))
		cfg := configWith(RoundRobin{}, ejecting(bySharesOnly), withoutStalls)
		b.up(cfg, "a", "b", "c")
		for i := range 28 * perSecond {
			if i == 12*perSecond {
				b.resolveWith(cfg, servers(fourServers...)...)
				b.ready("d")
			}
			result, info := b.start(unaryMethod), answeredOK
			if rng.IntN(10) == 0 {
				info = unavailable
			}
			time.AfterFunc(4*time.Second, func() { result.Done(info) }) // of an interval of 5
			time.Sleep(time.Second / perSecond)
			if i%perSecond == 0 {
				b.wantSuspects()
			}
		}
		time.Sleep(5 * time.Second)
	})
}

// Answers that come after the connection was replaced are counted, as failures are.
func TestAnswersOfReplacedConnectionsCount(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		cfg := configWith(RoundRobin{}, ejecting(bySharesOnly), withoutStalls)
		b.up(cfg, fourServers...)
		var dones []func()
		for n := range 1200 {
			result, info := b.start(unaryMethod), answeredOK
			if n/4%10 == 0 {
				info = unavailable
			}
			dones = append(dones, func() { result.Done(info) })
		}
		b.resolveWith(cfg, server("a", at("a:2")), server("b"), server("c"), server("d"))
		b.cc.Newest().Ready()
		b.pass()
		for _, done := range dones {
			done()
		}
		if ended := b.counts("a"); ended != (counts{270, 30 + 1}) { // that the connection is lost counts too
			t.Errorf("counted %+v of 270 answers and 30 failures", ended)
		}
	})
}

// What a connection has counted is not lost with it.
func TestCountsOutliveConnections(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		cfg := configWith(RoundRobin{}, ejecting())
		b.up(cfg, "a", "b")
		old := b.find("a", "").conn
		for range 3 {
			old.dones[uncounted][1](answeredOK)
		}
		want := b.counts("a")
		want.failed++ // that the connection is lost counts too
		b.resolveWith(cfg, server("a", at("a:2")), server("b"))
		b.cc.Newest().Ready()
		b.pass()
		if after := b.find("a", ""); after.conn == old || b.counts("a") != want {
			t.Errorf("with another connection (%t) counted are %+v, want %+v", after.conn != old, b.counts("a"), want)
		}
	})
}

// That streams fail says nothing about how fast unary calls are answered.
func TestFailedStreamsLeaveTheLatencyAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(P2C{}), "a", "b")
		b.load(1000, time.Second, healthy)
		for failed := 0; failed < 5; {
			result, info := b.start(streamMethod), answeredOK
			if b.idOf(result) == "a" {
				failed++
				info = unavailable
			}
			time.AfterFunc(100*time.Millisecond, func() { result.Done(info) })
		}
		time.Sleep(200 * time.Millisecond)
		if got := between(b.load(1000, time.Second, healthy), "a", 0, time.Second); got < 350 {
			t.Errorf("a gets %d of 1000 unary calls, want half or so", got)
		}
	})
}
