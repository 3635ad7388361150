package httpregistry

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

func TestRegisterRefusesWhatTheRegistryWouldGarble(t *testing.T) {
	c, err := New(three)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for want, spoil := range map[string]func(*registry.Instance){
		`belongs to the registry's own nodes`: func(i *registry.Instance) { i.Service = "Kavin.discovery" },
		`the ID "\xff" is not UTF-8`:          func(i *registry.Instance) { i.ID = "\xff" },
		`service is empty`:                    func(i *registry.Instance) { i.Service = "" },
	} {
		inst := instance("s", 1)
		spoil(&inst)
		if _, err := c.Register(t.Context(), inst); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("Register = %v, want %q", err, want)
		}
	}
	if _, err := c.Fetch(t.Context(), "\xff"); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("Fetch of what is no UTF-8 = %v", err)
	}
}

func TestRegisterFailsWithEveryReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.serve(three[1], says200(`{"code":200`))
		c := n.client(three[:2], WithEnv("prod"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := c.Register(ctx, instance("greeter", 1))
		want := `httpregistry: register "i1" as "greeter" (env "prod"): context deadline exceeded: no registry node answers: ` +
			`10.0.0.1:6666: connection refused; 10.0.0.2:6666: the answer is not a registry's: "{\"code\":200" (application/json; charset=utf-8)`
		if err == nil || err.Error() != want {
			t.Errorf("Register = %v\nwant       %s", err, want)
		}
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("Register = %v: both errors must be found in it", err)
		}
	})
}

// What every node refuses is not worth trying again.
func TestRegisterEndsWhenItIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		refuse := says200(`{"code":400,"message":"code: 400, error info: request param error"}`)
		for _, addr := range three[:2] {
			n.registry(addr).answer(wire.PathRegister, refuse)
		}
		c := n.client(three[:2])
		_, err := c.Register(context.Background(), instance("s", 1))
		if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "10.0.0.2:6666: refused with code 400 (code: 400, error info: request param error)") {
			t.Errorf("Register = %v", err)
		}
		n.registry(three[1])
		mustRegister(t, c, instance("s", 1)) // the claim is free, and one node that takes it is enough
	})
}

// Anything else that a node says it could not do may work the next time.
func TestRegisterOutlastsOtherRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		node.answer(wire.PathRegister, says200(`{"code":500,"message":"not now"}`))
		go func() {
			time.Sleep(10 * time.Second)
			node.answer(wire.PathRegister, nil)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := n.client(three[:1]).Register(ctx, instance("s", 1)); err != nil {
			t.Errorf("Register = %v", err)
		}
		if got := len(node.asked(wire.PathRegister, time.Time{})); got > 15 {
			t.Errorf("asked %d times in 10 s", got)
		}
	})
}

// A register whose answer was lost may have been carried out: a Register that fails
// takes it back.
func TestAFailedRegisterLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		node.answer(wire.PathRegister, func(w http.ResponseWriter, r *http.Request) {
			node.Server.ServeHTTP(discard{}, r)
			<-r.Context().Done()
		})
		c := n.client(three[:1])
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if _, err := c.Register(ctx, instance("s", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 3*time.Second+2*spacing {
			t.Errorf("Register took %v with a deadline of 3s", took)
		}
		if _, err := n.client(three[:1]).Fetch(t.Context(), "s"); !errors.Is(err, registry.ErrUnknownService) {
			t.Errorf("it has left something: %v", err)
		}
		node.answer(wire.PathRegister, nil)
		mustRegister(t, c, instance("s", 1))
	})
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func TestUpdateReplacesAllAndWritesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		c := n.client(three[:1])
		inst := instance("s", 1)
		inst.Zone = "a"
		r := mustRegister(t, c, inst)
		pass(5 * time.Second)
		since := time.Now()
		inst.Zone, inst.Weight, inst.Status = "", 7, registry.Draining
		if err := r.Update(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		writes := node.asked(wire.PathRegister, since)
		if len(writes) != 2 {
			t.Fatalf("written %d times, want twice", len(writes))
		}
		if gap := writes[1].at.Sub(writes[0].at); gap != settleAfter {
			t.Errorf("written again after %v, want %v", gap, settleAfter)
		}
		for _, w := range writes {
			if got := w.body["addrs"].([]any)[0]; got != "grpc://10.1.0.1:9000?life=life1&weight=7" || w.body["status"] != 2.0 {
				t.Errorf("written: %v", w.body)
			}
		}
		if got := eventsOf(r); !slices.Equal(got, []registry.EventKind{registry.Registered}) {
			t.Errorf("events %v", got)
		}
	})
}

// An Update that fails is what the beat writes as soon as it can.
func TestAnUpdateThatFailedIsWrittenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.registry(three[0])
		c := n.client(three[:1])
		before := instance("s", 1)
		r := mustRegister(t, c, before)
		n.kill(three[0])
		after := before
		after.Weight = 7
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := r.Update(ctx, after); !errors.Is(err, registry.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update = %v", err)
		}
		if got := r.Instance(); !got.Equal(before) {
			t.Errorf("registered is %+v, want what was written last", got)
		}
		n.registry(three[0])
		pass(20 * time.Second)
		if snap, err := n.client(three[:1]).Fetch(t.Context(), "s"); err != nil || snap.Instances[0].Weight != 7 {
			t.Errorf("20 s after the registry came back: %+v, %v", snap.Instances, err)
		}
		if got := r.Instance(); !got.Equal(after) {
			t.Errorf("registered is %+v, want the update", got)
		}
	})
}

// A node that does not know the instance tells nobody: then a second one is told.
func TestDeregisterTriesASecondNodeAfter404(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node, other := noNodes(n.registry(three[0])), noNodes(n.registry(three[1]))
		c := n.client(three[:2])
		c.nodes.start = 0
		r := mustRegister(t, c, instance("s", 1))
		node.drop("s", "i1")
		other.put(instance("s", 1))
		if err := r.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		if got := len(other.asked(wire.PathCancel, time.Time{})); got != 1 {
			t.Errorf("the second node was told %d times", got)
		}
		r = mustRegister(t, c, instance("s", 2))
		n.kill(three[1])
		node.drop("s", "i2")
		if err := r.Deregister(t.Context()); err != nil {
			t.Errorf("gone is gone: %v", err)
		}
	})
}

// The word of one node does not prove that the others know: each is told, and
// those that do not answer do not matter.
func TestDeregisterTellsEveryNodeThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		var nodes []*fakeNode
		for _, addr := range three {
			nodes = append(nodes, noNodes(n.registry(addr)))
		}
		c := n.client(append(slices.Clone(three), "10.0.0.8:6666", "10.0.0.9:6666"))
		n.hang("10.0.0.9:6666") // at the other one there is nothing
		c.nodes.start = 0
		r := mustRegister(t, c, instance("s", 1))
		for _, node := range nodes[1:] {
			node.put(instance("s", 1)) // as a peer that will not hear of the cancel
		}
		began := time.Now()
		if err := r.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		for i, addr := range three {
			if _, err := n.client([]string{addr}).Fetch(t.Context(), "s"); !errors.Is(err, registry.ErrUnknownService) {
				t.Errorf("it is still at node %d: %v", i, err)
			}
		}
	})
}

func TestDeregisterGivesUpAfterALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.registry(three[0])
		c := n.client(three[:1])
		r := mustRegister(t, c, instance("s", 1))
		n.kill(three[0])
		began := time.Now()
		err := r.Deregister(context.Background())
		if err == nil || !strings.HasPrefix(err.Error(), `httpregistry: deregister "i1" of "s" (env "dev"): context deadline exceeded: no registry node answers: 10.0.0.1:6666: connection refused`) {
			t.Errorf("Deregister = %v", err)
		}
		if took := time.Since(began); took != 90*time.Second {
			t.Errorf("it took %v, want a lease", took)
		}
	})
}

// A beat that is stuck does not hold up a Deregister that has no more time.
func TestDeregisterKeepsItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		c := n.client(three[:1], WithTimeout(10*time.Second))
		r := mustRegister(t, c, instance("s", 1))
		pass(10 * time.Second)
		node.drop("s", "i1")
		node.answer(wire.PathRegister, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		for len(node.asked(wire.PathRegister, time.Now().Add(-time.Second))) == 0 {
			pass(100 * time.Millisecond)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Deregister(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Deregister = %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// An Update that is stuck does not hold up a Deregister, and ends with it.
func TestDeregisterEndsAnUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.registry(three[0])
		c := n.client(three[:1])
		r := mustRegister(t, c, instance("s", 1))
		n.kill(three[0])
		var updated error
		go func() {
			inst := instance("s", 1)
			inst.Weight = 9
			updated = r.Update(context.Background(), inst)
		}()
		pass(10 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Deregister(ctx); err == nil {
			t.Error("Deregister has told a registry that is not there")
		}
		synctest.Wait()
		if !errors.Is(updated, registry.ErrClosed) {
			t.Errorf("Update = %v, want ErrClosed", updated)
		}
	})
}

// Close bounds what a dead registry costs a process that ends.
func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.registry(three[0])
		c := n.client(three[:1])
		for i := range 5 {
			mustRegister(t, c, instance("s", i))
		}
		slow := mustRegister(t, c, instance("s", 5))
		n.hang(three[0])
		go slow.Deregister(context.Background())
		go c.Register(context.Background(), instance("s", 6))
		go c.Fetch(context.Background(), "s")
		pass(time.Millisecond)
		began := time.Now()
		c.Close()
		if took := time.Since(began); took > closeTimeout+2*time.Second {
			t.Errorf("Close took %v", took)
		}
		pass(time.Millisecond)
		since := time.Now()
		pass(time.Hour)
		if got := n.dialled(three[0], since); got > 0 {
			t.Errorf("%d dials after Close", got)
		}
	})
}
