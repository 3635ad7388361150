package test

import (
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/pick"
)

// One of four servers is killed. What was in its hand is all that it costs, and
// nothing where a method may be repeated; nobody calls it 100 ms later.
func TestKilledServerIsAvoidedAtOnce(t *testing.T) {
	_, registry := startRegistry(t, "127.0.0.1:0")
	servers := map[string]server{}
	for _, id := range []string{"a", "b", "c", "d"} {
		servers[id] = startServer(t, registry, id, "-latency", "20ms")
	}
	rate := within(250., 1000.) // for each of two
	idempotent := observe(t, registry, 4, "round_robin", failmode.Failover)
	unsafe := observe(t, registry, 4, "round_robin", failmode.Failover)
	idempotent.start(rate, patience, get)
	unsafe.start(rate, patience, add)
	lives(t, within(time.Second, 10*time.Second))
	servers["a"].Kill()
	killed := time.Now()
	lives(t, within(2*time.Second, 20*time.Second))
	idempotent.end()
	unsafe.end()

	if idempotent.lost() > 0 {
		t.Errorf("method that may be repeated: %v", idempotent)
	}
	unanswered := 0
	for _, o := range []*observer{idempotent, unsafe} {
		for _, a := range o.at("a") {
			switch {
			case a.began.After(killed.Add(100 * time.Millisecond)):
				t.Errorf("it was called %v after its death: %v, %v", a.began.Sub(killed), a.class, a.err)
			case a.err == nil || a.class == pick.NotSent:
			case a.class != pick.Unanswered:
				t.Errorf("an attempt ended as %v: %v", a.class, a.err)
			case o == unsafe:
				unanswered++
			}
		}
	}
	if unanswered == 0 || unsafe.lost() != unanswered {
		t.Errorf("%d calls of the other method were sent to it and not answered: %v", unanswered, unsafe)
	}
}

// lives lets the load go on for a while.
func lives(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
