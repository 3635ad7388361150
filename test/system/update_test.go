package system

import (
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/registry"
)

// An operator changes the weight of a server, takes it out of service and back
// in: clients follow within a poll and keep their connections.
func TestUpdatesReachClientsWithoutAReconnect(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a, b := w.start(registry.Instance{ID: "a", Weight: 1}), w.start(registry.Instance{ID: "b", Weight: 1})
		conn := w.client(balancer.WeightedRoundRobin{}, failmode.Failfast)
		for _, step := range []struct {
			what string
			do   func() error
			ofA  int // of 40 calls
		}{
			{"as registered", func() error { return nil }, 20},
			{"weight 3", func() error { return a.SetWeight(t.Context(), 3) }, 30},
			{"drained", func() error { return a.Drain(t.Context()) }, 0},
			{"resumed", func() error { return a.Resume(t.Context()) }, 30},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			if got := testenv.Shares(t, conn, 40); got["a"] != step.ofA {
				t.Errorf("%s: %v, want %d calls for a", step.what, got, step.ofA)
			}
		}
		for _, p := range []*process{a, b} {
			if got := w.Network.Dials(p.inst.Addrs[0]); got != 1 {
				t.Errorf("%s was connected to %d times", p.inst.ID, got)
			}
		}
	})
}
