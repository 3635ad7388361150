package memory_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

func TestContract(t *testing.T) {
	registrytest.Run(t, func(*testing.T) registrytest.Backend {
		store := memory.New()
		return registrytest.Backend{Client: func() (registry.Registry, error) { return store.Client(), nil }}
	})
}

func register(t *testing.T, r registry.Registry, life string) registry.Registration {
	t.Helper()
	reg, err := r.Register(t.Context(), registry.Instance{Service: "greeter", ID: "greeter-1", Life: life, Addrs: []string{"10.0.0.1:9000"}})
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// only returns the one instance there is.
func only(t *testing.T, r registry.Registry) registry.Instance {
	t.Helper()
	snap, err := r.Fetch(t.Context(), "greeter")
	if err != nil || len(snap.Instances) != 1 {
		t.Fatalf("Fetch: %v, %v, want one instance", snap.Instances, err)
	}
	return snap.Instances[0]
}

// A process is killed, and its successor registers under the same ID before
// anybody has noticed.
func TestAnotherClientTakesAnIdentityOver(t *testing.T) {
	first := memory.New()
	defer first.Close()
	second := first.Client()
	old := register(t, first, "old")
	successor := register(t, second, "new")
	if got := only(t, first); got.Life != "new" {
		t.Errorf("registered is life %q, want the successor's", got.Life)
	}
	if e := <-old.Events(); e.Kind != registry.Collision || e.Err == nil {
		t.Errorf("the old one is told %v, want a collision and why", e)
	}
	if err := old.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	if got := only(t, first); got.Life != "new" {
		t.Error("the old one took the successor out")
	}
	if err := successor.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := first.Fetch(t.Context(), "greeter"); !errors.Is(err, registry.ErrUnknownService) {
		t.Errorf("Fetch: %v, want ErrUnknownService", err)
	}
}

func TestUpdateTakesAnIdentityBack(t *testing.T) {
	first := memory.New()
	defer first.Close()
	second := first.Client()
	defer second.Close()
	one, two := register(t, first, "one"), register(t, second, "two")
	if err := one.Update(t.Context(), one.Instance()); err != nil {
		t.Error(err)
	}
	if got := only(t, second); got.Life != "one" {
		t.Errorf("registered is life %q, want the last writer's", got.Life)
	}
	if e := <-two.Events(); e.Kind != registry.Collision {
		t.Errorf("the other one is told %v, want a collision", e)
	}
}

func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := memory.New()
		defer reg.Close()
		begin := time.Now()
		one := register(t, reg, "one")
		time.Sleep(time.Hour)
		inst := one.Instance()
		inst.Weight = 5
		if err := one.Update(t.Context(), inst); err != nil {
			t.Error(err)
		}
		got := only(t, reg)
		if !got.FirstRegistered.Equal(begin) || !got.LastRenewed.Equal(time.Now()) {
			t.Errorf("first registered %v, last renewed %v; want %v and %v", got.FirstRegistered, got.LastRenewed, begin, time.Now())
		}
	})
}

// A client that lives long must not keep what is over.
func TestNothingIsKeptOfWhatIsOver(t *testing.T) {
	reg := memory.New()
	defer reg.Close()
	for range 10 {
		if err := register(t, reg, "one").Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		w, err := reg.Watch(t.Context(), "greeter")
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	if registrations, watchers := memory.Kept(reg); registrations != 0 || watchers != 0 {
		t.Errorf("%d registrations and %d watchers are kept, want none", registrations, watchers)
	}
}
