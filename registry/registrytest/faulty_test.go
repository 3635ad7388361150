package registrytest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
)

// newFaulty returns a Faulty registry with two instances that somebody else has
// registered.
func newFaulty(t *testing.T) (f *Faulty, a, b registry.Instance, other registry.Registration) {
	t.Helper()
	store := memory.New()
	f = NewFaulty(store.Client())
	t.Cleanup(func() { f.Close(); store.Close() })
	a = registry.Instance{Service: "echo", ID: "a", Addrs: []string{"10.0.0.1:1"}}
	b = registry.Instance{Service: "echo", ID: "b", Addrs: []string{"10.0.0.2:1"}}
	register(t, store, a)
	return f, a, b, register(t, store, b)
}

func register(t *testing.T, r registry.Registry, inst registry.Instance) registry.Registration {
	t.Helper()
	reg, err := r.Register(t.Context(), inst)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// story is what a client that knows a and b already is told of them under a
// fault, then when b has gone, and then when the fault is over.
type story struct{ fetch, next, later, healed answer }

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault Fault
		want  func(a, b registry.Instance) story
	}{
		{"none", Fault{}, func(a, b registry.Instance) story {
			return story{fetch: set(a, b), next: nothing, later: set(a), healed: nothing}
		}},
		{"down", Fault{Down: true}, func(a, b registry.Instance) story {
			return story{fetch: unconfirmed(a, b), next: failure(registry.ErrUnavailable), later: nothing, healed: set(a)}
		}},
		{"frozen", Fault{Frozen: true}, func(a, b registry.Instance) story {
			return story{fetch: set(a, b), next: nothing, later: nothing, healed: set(a)}
		}},
		{"empty", Fault{Empty: true}, func(a, b registry.Instance) story {
			return story{fetch: failure(registry.ErrUnknownService), next: failure(registry.ErrUnknownService), later: nothing, healed: set(a)}
		}},
		{"partial", Fault{Partial: 1}, func(a, b registry.Instance) story {
			return story{fetch: set(a), next: set(a), later: nothing, healed: nothing}
		}},
		{"unconfirmed", Fault{Unconfirmed: "smaller"}, func(a, b registry.Instance) story {
			return story{fetch: unconfirmed(a, b), next: unconfirmed(a, b), later: unconfirmed(a), healed: set(a)}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, a, b, other := newFaulty(t)
				want := test.want(a, b)
				watcher, err := f.Watch(t.Context(), "echo")
				if err != nil {
					t.Fatal(err)
				}
				expect(t, watcher, set(a, b))
				f.Set(test.fault)
				if snap, err := f.Fetch(t.Context(), "echo"); !want.fetch.ok(snap, err) {
					t.Errorf("Fetch: %s, want %s", describe(snap, err), want.fetch)
				}
				expect(t, watcher, want.next)
				other.Deregister(t.Context())
				expect(t, watcher, want.later)
				f.Set(Fault{})
				expect(t, watcher, want.healed)
				expect(t, watcher, nothing)
			})
		})
	}
}

// nothing is what Next says when it goes on waiting.
var nothing = answer{"nothing", func(snap registry.Snapshot, err error) bool { return errors.Is(err, context.DeadlineExceeded) }}

func expect(t *testing.T, watcher registry.Watcher, want answer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if snap, err := watcher.Next(ctx); !want.ok(snap, err) {
		t.Errorf("Next: %s, want %s", describe(snap, err), want)
	}
}

func TestFaultyDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, b, other := newFaulty(t)
		f.Set(Fault{Delay: time.Minute})
		begin := time.Now()
		took := func(what string, want time.Duration) {
			t.Helper()
			if got := time.Since(begin); got != want {
				t.Errorf("%s took %v, want %v", what, got, want)
			}
			begin = time.Now()
		}
		f.Fetch(t.Context(), "echo")
		took("Fetch", time.Minute)
		watcher, _ := f.Watch(t.Context(), "echo")
		expect(t, watcher, set(a, b))
		took("the first Next", time.Minute)
		other.Deregister(t.Context())
		soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := watcher.Next(soon); err != soon.Err() {
			t.Errorf("Next before the delay is over: %v", err)
		}
		expect(t, watcher, set(a))
		took("Next after a change", time.Minute)
		reg := register(t, f, registry.Instance{Service: "other", ID: "a", Addrs: []string{"10.0.0.1:1"}})
		took("Register", time.Minute)
		if err := reg.Update(t.Context(), reg.Instance()); err != nil {
			t.Error(err)
		}
		took("Update", time.Minute)
		ended, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Fetch(ended, "echo"); err != ended.Err() {
			t.Errorf("Fetch that is too slow: %v", err)
		}
		took("Fetch that is too slow", time.Second)
		f.Close()
		took("Close", 0)
	})
}

func TestFaultyReportsWhatAHeartbeatWould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, _, _ := newFaulty(t)
		reg := register(t, f, registry.Instance{Service: "other", ID: "a", Addrs: []string{"10.0.0.1:1"}})
		f.Set(Fault{Down: true})
		f.Set(Fault{Empty: true})
		f.Set(Fault{})
		f.Close()
		var got []registry.EventKind
		for e := range reg.Events() {
			got = append(got, e.Kind)
		}
		want := []registry.EventKind{registry.RenewFailed, registry.Renewed, registry.Lost, registry.Registered, registry.Deregistered}
		if len(got) != len(want) {
			t.Fatalf("events: %v, want %v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("events: %v, want %v", got, want)
			}
		}
	})
}

// A registry that a Faulty is in front of may be closed behind its back.
func TestFaultyEndsWithTheInnerRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New()
		f := NewFaulty(inner)
		defer f.Close()
		watcher, _ := f.Watch(t.Context(), "echo")
		expect(t, watcher, failure(registry.ErrUnknownService))
		inner.Close()
		for range 2 {
			expect(t, watcher, failure(registry.ErrClosed))
		}
	})
}
