package balancer

import (
	"fmt"
	"testing"
	"testing/synctest"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/drain"
)

func TestClosingMark(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		closes := func(id string, trailer metadata.MD) {
			for {
				got, done, err := b.call(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if got == id {
					done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true, Trailer: trailer})
					return
				}
				done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
			}
		}
		only := func(ids ...string) {
			t.Helper()
			if got := count(b.picks(t.Context(), 100)); len(got) != len(ids) || got[ids[0]] == 0 {
				t.Errorf("picked %v, want only %v", got, ids)
			}
		}
		b.resolve(p, servers("a/1", "b/1")...)
		b.ready("a", "b")
		closes("a", drain.Closing("b", "1"))  // relays another server's mark
		closes("a", drain.Closing("a", "0"))  // of an earlier process
		closes("a", metadata.Pairs("x", "y")) // no mark
		b.wantPublished("a mark that does not hold", 0, b.pass)
		only("a", "b")

		closes("a", drain.Closing("a", "1"))
		only("b") // at once
		b.pass()
		only("b")
		if len(b.cc.SubConns()) != 2 {
			t.Error("the connection to a closing server was closed")
		}
		b.resolve(p, servers("b/1")...)
		b.resolve(p, servers("a/1", "b/1")...) // a stale list names it again
		b.ready("a")
		only("b")
		b.resolve(p, servers("a/2", "b/1")...)
		b.ready("a")
		only("a", "b")
		closes("a", drain.Closing("a", "2"))
		closes("b", drain.Closing("b", "1"))
		only("a", "b") // nobody else is left
		b.pass()
		only("a", "b")
	})
}

func TestClosingMarkOfALostConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a/1")...)
		b.ready("a")
		_, done, _ := b.call(t.Context())
		b.resolve(RoundRobin{}, servers("a/1", "b/1")...)
		b.ready("b")
		a := b.sub("a")
		a.Set(connectivity.Idle, nil)
		done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true, Trailer: drain.Closing("a", "1")})
		synctest.Wait()
		a.Ready()
		b.wantPicks(4, map[string]int{"b": 4})
		b.pass()
		if got := len(b.picker.snapshot.Load().schedule.(*rotation).table); got != 1 {
			t.Errorf("%d instances in the rotation, want only b", got)
		}
	})
}

func TestLateClosingMark(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.resolve(RoundRobin{}, servers("a/1")...)
		b.ready("a")
		_, done, _ := b.call(t.Context())
		b.resolve(RoundRobin{}, servers("b/1")...)
		b.resolve(RoundRobin{}, servers("a/1", "b/1")...)
		b.ready("a", "b")
		done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true, Trailer: drain.Closing("a", "1")})
		b.wantPicks(4, map[string]int{"b": 4})
		b.sub("a").Set(connectivity.Idle, nil)
		b.ready("a")
		b.wantPicks(4, map[string]int{"b": 4})
	})
}

func TestTombstonesAreBounded(t *testing.T) {
	var stones lives
	for i := range 3 * maxLives {
		stones.add("server", fmt.Sprint(i))
		stones.add("server", fmt.Sprint(i))
	}
	if len(stones.known) != maxLives || len(stones.oldest) != maxLives {
		t.Errorf("%d lives", len(stones.known))
	}
	if !stones.contains("server", fmt.Sprint(3*maxLives-1)) || stones.contains("server", "0") {
		t.Error("the latest must be known and the oldest forgotten")
	}
}
