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

// Those whose identity was taken have it again, one after the other.
func TestIdentityComesBack(t *testing.T) {
	var clients []*memory.Registry
	var all []registry.Registration
	for i, life := range []string{"one", "two", "three", "four"} {
		clients = append(clients, memory.New())
		if i > 0 {
			clients[i] = clients[0].Client()
		}
		defer clients[i].Close()
		all = append(all, register(t, clients[i], life))
	}
	for _, reg := range all[:2] {
		inst := reg.Instance()
		inst.Weight = 7
		if err := reg.Update(t.Context(), inst); !errors.Is(err, registry.ErrTaken) {
			t.Errorf("Update of %s: %v", inst.Life, err)
		}
	}
	leave := func(i int, left string, weight uint32) {
		t.Helper()
		if err := all[i].Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		if got := only(t, clients[0]); got.Life != left || got.Weight != weight {
			t.Errorf("registered is life %q with weight %d, want %q with %d", got.Life, got.Weight, left, weight)
		}
	}
	leave(2, "four", all[3].Instance().Weight) // which is not the one that is registered
	leave(3, "two", 7)
	leave(1, "one", 7)
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
