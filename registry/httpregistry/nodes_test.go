package httpregistry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

var three = []string{"10.0.0.1:6666", "10.0.0.2:6666", "10.0.0.3:6666"}

// noNodes makes a node say nothing of the others.
func noNodes(f *fakeNode) *fakeNode {
	f.answer(wire.PathNodes, says200(`{"code":404,"data":"","message":""}`))
	return f
}

func TestCallsStickToANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		nodes := map[string]*fakeNode{}
		for _, addr := range three {
			nodes[addr] = noNodes(n.registry(addr))
			nodes[addr].put(instance("s", 1))
		}
		c := n.client(three)
		snap, err := c.Fetch(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		watchIt(t, c, "s")
		mustRegister(t, c, instance("other", 2))
		pass(10 * time.Minute)
		for addr, node := range nodes {
			looks := slices.DeleteFunc(node.asked(wire.PathFetch, time.Time{}), func(r request) bool { return r.body["appid"] != "s" })
			if beats := node.asked(wire.PathRenew, time.Time{}); (len(looks) > 0 && len(beats) > 0) != (addr == snap.Source) {
				t.Errorf("%s was asked %d times and sent %d beats, sticky is %s", addr, len(looks), len(beats), snap.Source)
			}
		}
		n.kill(snap.Source)
		pass(time.Minute)
		second, err := c.Fetch(t.Context(), "s")
		if err != nil || second.Source == snap.Source || !second.Confirmed {
			t.Fatalf("after %s died: %s from %s, %v", snap.Source, ids(second), second.Source, err)
		}
		noNodes(n.registry(snap.Source)).put(instance("s", 1))
		pass(20 * time.Minute)
		if third, _ := c.Fetch(t.Context(), "s"); third.Source != second.Source {
			t.Errorf("it moved from %s to %s, which had answered", second.Source, third.Source)
		}
	})
}

// Clients do not all begin with the same node.
func TestClientsSpreadOverTheSeeds(t *testing.T) {
	first := map[int]bool{}
	for range 200 {
		c, err := New(three)
		if err != nil {
			t.Fatal(err)
		}
		n, _, _ := c.nodes.pick(nil, nil)
		first[slices.Index(three, n.host)] = true
		c.Close()
	}
	if len(first) != 3 {
		t.Errorf("of three seeds only %v were chosen first", first)
	}
}

func TestDeadNodesAreOffTheHotPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		live := noNodes(n.registry(three[2]))
		c := n.client(three)
		c.nodes.start = 0
		for i := range 10 {
			live.put(instance(fmt.Sprint("s", i), i))
			watchIt(t, c, fmt.Sprint("s", i))
		}
		pass(time.Hour)
		for _, addr := range three[:2] {
			if got := n.dialled(addr, time.Time{}); got != 1 {
				t.Errorf("%s was dialled %d times in an hour with another node alive, want once", addr, got)
			}
		}
		mustRegister(t, c, instance("own", 1))
		since := time.Now()
		pass(time.Hour)
		for _, addr := range three[:2] {
			if got := n.dialled(addr, since); got > 17 {
				t.Errorf("%s was dialled %d times in an hour, want no more often than a registration looks for itself", addr, got)
			}
		}
	})
}

// While all are dead, each is dialled once per backoff, however much is waiting.
func TestDeadNodesAreDialledOncePerBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		c := n.client(three)
		for i := range 20 {
			watchIt(t, c, fmt.Sprint("s", i))
			go c.Register(t.Context(), instance("own", i))
		}
		pass(10 * time.Minute)
		for _, addr := range three {
			dials := n.dials[addr]
			if len(dials) < 10*60/5 {
				t.Errorf("%s was dialled %d times in 10 minutes: it was given up", addr, len(dials))
			}
			for i := 1; i < len(dials); i++ {
				least := c.nodes.backoff
				if gap := dials[i].Sub(dials[i-1]); gap < min(least.Base<<min(i-1, 20), least.Max)/2 {
					t.Fatalf("%s was dialled again after %v (dial %d)", addr, gap, i)
				}
			}
		}
	})
}

func TestAHungNodeCostsOneTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		noNodes(n.registry(three[1]))
		n.hang(three[0])
		c := n.client(three[:2])
		c.nodes.start = 0
		began := time.Now()
		for i := range 50 {
			if _, err := c.Fetch(t.Context(), fmt.Sprint("s", i)); !errors.Is(err, registry.ErrUnknownService) {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("50 calls took %v, want one timeout of 2s", took)
		}
	})
}

// A node that begins to hang while many ask it costs each of them one timeout, at
// the same time; then one of them at a time finds out whether it is back.
func TestANodeThatBeginsToHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		noNodes(n.registry(three[0]))
		c := n.client(three[:1])
		for i := range 20 {
			watchIt(t, c, fmt.Sprint("s", i))
		}
		pass(time.Minute)
		n.hang(three[0])
		pass(10 * time.Second)
		since := time.Now()
		pass(time.Minute)
		if got := n.dialled(three[0], since); got < 12 || got > 25 {
			t.Errorf("dialled %d times in a minute, want once in 2.5 to 5 s", got)
		}
	})
}

// A caller's deadline is shared by the nodes there are, so that a hung one leaves
// time for the next.
func TestADeadlineIsSharedByTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		noNodes(n.registry(three[1])).put(instance("s", 1))
		n.hang(three[0])
		c := n.client(three[:2])
		c.nodes.start = 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if snap, err := c.Fetch(ctx, "s"); ids(snap) != "i1" {
			t.Errorf("Fetch = %s, %v", ids(snap), err)
		}
	})
}

// A caller who gives up does not give a node a bad name, unless he has been patient.
func TestImpatientCallersProveNothing(t *testing.T) {
	for _, tt := range []struct {
		patience time.Duration
		failed   bool
	}{{10 * time.Millisecond, false}, {time.Second, true}} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			node := noNodes(n.registry(three[0]))
			c := n.client(three[:1])
			c.Fetch(t.Context(), "s")
			node.answer(wire.PathFetch, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
			defer cancel()
			_, err := c.Fetch(ctx, "other")
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("Fetch = %v, want both reasons", err)
			}
			if got := c.nodes.down(); got != tt.failed {
				t.Errorf("after %v of silence the node counts as failed: %v, want %v", tt.patience, got, tt.failed)
			}
		})
	}
}

// Whoever has so little time that a node's share of it is over before a healthy one
// can answer does not take the nodes away from the others.
func TestImpatientCallersHarmNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		for _, addr := range three {
			node := noNodes(n.registry(addr))
			slow := func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(40 * time.Millisecond)
				node.Server.ServeHTTP(w, r)
			}
			node.put(instance("s", 1), instance("own", 1))
			node.answer(wire.PathFetch, slow)
			node.answer(wire.PathRenew, slow)
		}
		c := n.client(three)
		w := watchIt(t, c, "s")
		r := mustRegister(t, c, instance("own", 1))
		pass(5 * time.Second)
		current := c.nodes.current
		for i := range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if _, err := c.Fetch(ctx, fmt.Sprint("other", i)); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Fetch with a third of 100 ms for each node = %v", err)
			}
			cancel()
			pass(100 * time.Millisecond)
		}
		if events := eventsOf(r); w.told() != 1 || len(events) > 0 || c.nodes.current != current {
			t.Errorf("the watcher was told %q, the registration %v, and the node is %s instead of %s", w.all(), events, c.nodes.current.host, current.host)
		}
	})
}

// Several calls that fail together are one failure of the node.
func TestFailuresTogetherCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := noNodes(n.registry(three[0]))
		c := n.client(three[:1])
		c.Fetch(t.Context(), "s")
		node.answer(wire.PathFetch, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(100 * time.Millisecond)
			w.WriteHeader(500)
		})
		for i := range 30 {
			go c.Fetch(t.Context(), fmt.Sprint("other", i))
		}
		pass(200 * time.Millisecond)
		if got := c.nodes.list[0].fails; got != 1 {
			t.Errorf("30 calls at once count as %d failures", got)
		}
	})
}

func TestErrorsNameEveryNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.hang(three[1])
		n.serve(three[2], http.NotFoundHandler())
		c := n.client(append(three, "https://registry.example.com"), WithEnv("prod"))
		n.serve("registry.example.com:443", http.NotFoundHandler()) // speaks no TLS
		_, err := c.Fetch(t.Context(), "greeter")
		want := `httpregistry: fetch "greeter" (env "prod"): no registry node answers: ` +
			`10.0.0.1:6666: connection refused; 10.0.0.2:6666: no answer within 2s; ` +
			`10.0.0.3:6666: HTTP status 404 Not Found (text/plain; charset=utf-8); ` +
			`registry.example.com:443: http: server gave HTTP response to HTTPS client`
		if err == nil || err.Error() != want {
			t.Errorf("Fetch = %v\nwant    %s", err, want)
		}
		// Now nothing is due: the same words, at once, and nobody is dialled.
		began := time.Now()
		if _, again := c.Fetch(t.Context(), "greeter"); again == nil || again.Error() != want || time.Since(began) > 0 {
			t.Errorf("Fetch again after %v = %v", time.Since(began), again)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := n.client(three[:1]).Fetch(ctx, "greeter"); err == nil || !strings.Contains(err.Error(), "context canceled: no registry node answers: 10.0.0.1:6666: not tried") {
			t.Errorf("Fetch with an ended context = %v", err)
		}
	})
}

func TestNodesAreLoggedWhenTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		log := &logs{}
		noNodes(n.registry(three[0])).put(instance("s", 1))
		c := n.client(three[:1], WithLogger(log.logger()))
		watchIt(t, c, "s")
		pass(time.Minute)
		n.kill(three[0])
		pass(10 * time.Minute)
		noNodes(n.registry(three[0])).put(instance("s", 1))
		pass(10 * time.Minute)
		for _, line := range []string{"registry node chosen", "registry node failed", "registry node answers again"} {
			if got := log.count(line); got != 1 {
				t.Errorf("%q was logged %d times, want once", line, got)
			}
		}
	})
}
