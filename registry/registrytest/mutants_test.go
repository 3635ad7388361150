package registrytest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
)

var errPlain = errors.New("one that says nothing")

// plain replaces the error by one that errors.Is does not recognise.
func plain(err error) error {
	if err != nil {
		return errPlain
	}
	return nil
}

// beginAgain registers inst as soon as the registry can be reached.
func beginAgain(ctx context.Context, good registry.Registry, inst registry.Instance) {
	go good.Register(ctx, inst)
}

// registerMutants to failureMutants are broken registries, by the check that
// must find them out.
var registerMutants = map[string][]spoil{
	"Register/stores every field": {
		spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			inst.Metadata = nil
			return good.Register(ctx, inst)
		}),
		spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			inst.Status = registry.Up
			return good.Register(ctx, inst)
		}),
	},
	"Register/shares nothing with its caller": {
		spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			reg, err := good.Register(ctx, inst)
			return spoiledRegistration{Registration: reg, instance: func() registry.Instance { return inst }}, err
		}),
	},
	"Register/refuses an invalid instance": {
		spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			reg, err := good.Register(ctx, inst)
			return reg, plain(err)
		}),
	},
	"Register/refuses an ID it holds":      {returnTheFirst},
	"Register/refuses an address it holds": {returnTheFirst},
	"Register/takes several services of one process": {
		func(_ context.Context, good registry.Registry) registry.Registry {
			taken := false
			return spoiled{Registry: good, register: func(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
				if taken {
					return nil, registry.ErrDuplicate
				}
				taken = true
				return good.Register(ctx, inst)
			}}
		},
	},
	"Register/leaves nothing when its context has ended": {
		spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			return good.Register(context.WithoutCancel(ctx), inst)
		}),
		spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			if ctx.Err() != nil {
				good.Register(context.WithoutCancel(ctx), inst)
			}
			return good.Register(ctx, inst)
		}),
	},
	"Register/keeps the instance beyond its context and any lease": {
		spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			reg, err := good.Register(ctx, inst)
			context.AfterFunc(ctx, func() { reg.Deregister(context.Background()) })
			return reg, err
		}),
		spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			reg, err := good.Register(ctx, inst)
			time.AfterFunc(90*time.Second, func() { reg.Deregister(context.Background()) })
			return reg, err
		}),
	},
	"Register/works for many goroutines": {returnTheFirst},
}

// returnTheFirst takes a second registration for the first.
func returnTheFirst(_ context.Context, good registry.Registry) registry.Registry {
	var mu sync.Mutex // guards first
	var first registry.Registration
	return spoiled{Registry: good, register: func(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
		mu.Lock()
		defer mu.Unlock()
		reg, err := good.Register(ctx, inst)
		if errors.Is(err, registry.ErrDuplicate) {
			return first, nil
		}
		first = reg
		return reg, err
	}}
}

var fetchMutants = map[string][]spoil{
	"Fetch/returns the whole set in the order of IDs": {
		spoilFetch(func(snap registry.Snapshot, err error) (registry.Snapshot, error) {
			snap.Instances = slices.Clone(snap.Instances)
			slices.Reverse(snap.Instances)
			return snap, err
		}),
		spoilFetch(func(snap registry.Snapshot, err error) (registry.Snapshot, error) {
			snap.Instances = slices.DeleteFunc(slices.Clone(snap.Instances), func(i registry.Instance) bool { return i.Status == registry.Draining })
			return snap, err
		}),
		spoilFetch(func(snap registry.Snapshot, err error) (registry.Snapshot, error) {
			snap.Source = ""
			return snap, err
		}),
	},
	"Fetch/says that a service is unknown": {
		spoilFetch(func(snap registry.Snapshot, err error) (registry.Snapshot, error) { return snap, nil }),
	},
	"Fetch/refuses an empty name": {
		spoilFetch(func(snap registry.Snapshot, err error) (registry.Snapshot, error) { return snap, plain(err) }),
	},
	"Fetch/does not answer from an old cache": {
		func(_ context.Context, good registry.Registry) registry.Registry {
			var cached *registry.Snapshot
			return spoiled{Registry: good, fetch: func(ctx context.Context, service string) (registry.Snapshot, error) {
				if cached == nil {
					snap, err := good.Fetch(ctx, service)
					if err != nil {
						return snap, err
					}
					cached = &snap
				}
				return *cached, nil
			}}
		},
	},
}

var registrationMutants = map[string][]spoil{
	"Registration/Update replaces the content": {
		spoilUpdate(func(good registry.Registration, ctx context.Context, inst registry.Instance) error {
			inst.Metadata = good.Instance().Metadata // merged, not replaced
			return good.Update(ctx, inst)
		}),
		spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			reg, err := good.Register(ctx, inst)
			return spoiledRegistration{Registration: reg, instance: inst.Clone}, err // never anew
		}),
		spoilRegistrations(func(ctx context.Context, good registry.Registration) registry.Registration {
			return spoiledRegistration{Registration: good, events: func() <-chan registry.Event { return nil }}
		}),
	},
	"Registration/Update refuses another identity": {
		spoilUpdate(func(good registry.Registration, ctx context.Context, inst registry.Instance) error {
			return plain(good.Update(ctx, inst))
		}),
		spoilUpdate(func(good registry.Registration, ctx context.Context, inst registry.Instance) error {
			was := good.Instance()
			inst.Service, inst.ID, inst.Life = was.Service, was.ID, was.Life
			return good.Update(ctx, inst)
		}),
	},
	"Registration/Update takes no address of another": {
		spoilUpdate(func(good registry.Registration, ctx context.Context, inst registry.Instance) error {
			if err := good.Update(ctx, inst); !errors.Is(err, registry.ErrDuplicate) {
				return err
			}
			return nil
		}),
	},
	"Registration/Deregister removes the instance for good": {
		spoilRegistrations(func(ctx context.Context, good registry.Registration) registry.Registration {
			return spoiledRegistration{Registration: good, deregister: func(context.Context) error { return nil }}
		}),
		func(ctx context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, register: func(c context.Context, inst registry.Instance) (registry.Registration, error) {
				reg, err := good.Register(c, inst)
				return spoiledRegistration{Registration: reg, deregister: func(c context.Context) error {
					time.AfterFunc(30*time.Second, func() { beginAgain(ctx, good, inst) }) // a late beat
					return reg.Deregister(c)
				}}, err
			}}
		},
	},
	"Registration/Deregister frees the identity": {
		func(_ context.Context, good registry.Registry) registry.Registry {
			used := map[string]bool{}
			return spoiled{Registry: good, register: func(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
				if used[inst.ID] {
					return nil, registry.ErrDuplicate
				}
				used[inst.ID] = true
				return good.Register(ctx, inst)
			}}
		},
	},
	"Registration/Deregister returns the same every time": {
		spoilRegistrations(func(ctx context.Context, good registry.Registration) registry.Registration {
			var mu sync.Mutex // guards called
			called := false
			return spoiledRegistration{Registration: good, deregister: func(c context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				if called {
					return registry.ErrClosed
				}
				called = true
				return good.Deregister(c)
			}}
		}),
	},
	"Registration/is over after Deregister": {
		spoilUpdate(func(good registry.Registration, ctx context.Context, inst registry.Instance) error {
			good.Update(ctx, inst)
			return nil
		}),
	},
	"Registration/Events end with Deregistered": {
		spoilRegistrations(func(ctx context.Context, good registry.Registration) registry.Registration {
			return spoiledRegistration{Registration: good, events: func() <-chan registry.Event { return nil }}
		}),
		spoilRegistrations(func(ctx context.Context, good registry.Registration) registry.Registration {
			return spoiledRegistration{Registration: good, events: func() <-chan registry.Event {
				none := make(chan registry.Event)
				close(none)
				return none
			}}
		}),
	},
	"Registration/Events hold nobody up": {
		spoilRegistrations(func(ctx context.Context, good registry.Registration) registry.Registration {
			unread := make(chan registry.Event, 10)
			return spoiledRegistration{Registration: good, update: func(c context.Context, inst registry.Instance) error {
				select {
				case unread <- registry.Event{Kind: registry.Registered}:
				case <-ctx.Done():
				}
				return good.Update(c, inst)
			}}
		}),
	},
	"Registration/Events tell of another process under the identity": {
		spoilRegistrations(func(ctx context.Context, good registry.Registration) registry.Registration {
			return spoiledRegistration{Registration: good, events: func() <-chan registry.Event { return nil }}
		}),
	},
	"Registration/Update leaves an identity to who has taken it": {
		spoilUpdate(func(good registry.Registration, ctx context.Context, inst registry.Instance) error {
			return plain(good.Update(ctx, inst))
		}),
		spoilUpdate(func(good registry.Registration, ctx context.Context, inst registry.Instance) error {
			before := good.Instance()
			err := good.Update(ctx, inst)
			if err != nil { // and the change is forgotten
				good.Update(ctx, before)
			}
			return err
		}),
	},
	"Registration/Update and Deregister take turns": {
		func(ctx context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, register: func(c context.Context, inst registry.Instance) (registry.Registration, error) {
				reg, err := good.Register(c, inst)
				return spoiledRegistration{Registration: reg, deregister: func(c context.Context) error {
					defer beginAgain(ctx, good, inst) // an Update that was on its way
					return reg.Deregister(c)
				}}, err
			}}
		},
	},
}

var closeMutants = map[string][]spoil{
	"Close/deregisters":                   {neverClose},
	"Close/ends watches":                  {neverClose},
	"Close/refuses everything afterwards": {neverClose},
}

// neverClose does nothing in Close.
func neverClose(ctx context.Context, good registry.Registry) registry.Registry {
	context.AfterFunc(ctx, func() { good.Close() })
	return spoiled{Registry: good, close: func() error { return nil }}
}

// TestEveryCheckFindsItsMutants proves of every check that it passes a good
// registry and fails broken ones.
func TestEveryCheckFindsItsMutants(t *testing.T) {
	mutants := map[string][]spoil{}
	for _, some := range []map[string][]spoil{registerMutants, fetchMutants, watchMutants, registrationMutants, closeMutants, failureMutants} {
		maps.Copy(mutants, some)
	}
	for _, c := range checks() {
		broken := mutants[c.name]
		delete(mutants, c.name)
		if len(broken) == 0 {
			t.Errorf("no mutant proves that the check %q can fail", c.name)
		}
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if failures := c.findings(backendOf(t, unharmed)); len(failures) > 0 {
					t.Errorf("fails a good registry: %q", failures)
				}
			})
			for n, how := range broken {
				synctest.Test(t, func(t *testing.T) {
					failures := c.findings(backendOf(t, how))
					if len(failures) == 0 {
						t.Errorf("passes the broken registry %d", n)
					}
					t.Logf("mutant %d: %q", n, failures)
				})
			}
		})
	}
	for name := range mutants {
		t.Errorf("the mutants for %q belong to no check", name)
	}
}

func TestFaultyKeepsTheContract(t *testing.T) {
	Run(t, func(t *testing.T) Backend { return backendOf(t, unharmed) })
}

func TestContractInRealTime(t *testing.T) {
	RunInRealTime(t, Timing{Within: time.Minute, Soon: time.Minute, Quiet: time.Millisecond}, func(t *testing.T) Backend { return backendOf(t, unharmed) })
}

func unharmed(_ context.Context, good registry.Registry) registry.Registry { return good }

// backendOf is a registry in memory that can be stopped, with clients spoiled
// in this way.
func backendOf(t *testing.T, how spoil) Backend {
	var (
		mu    sync.Mutex // guards all below
		store = memory.New()
		fault Fault
		all   []*Faulty
	)
	set := func(f Fault) func() {
		return func() {
			mu.Lock()
			defer mu.Unlock()
			fault = f
			for _, client := range all {
				client.Set(f)
			}
		}
	}
	return Backend{
		Client: func() (registry.Registry, error) {
			mu.Lock()
			defer mu.Unlock()
			client := NewFaulty(store.Client())
			client.Set(fault)
			all = append(all, client)
			return how(t.Context(), client), nil
		},
		Stop:  set(Fault{Down: true}),
		Start: set(Fault{}),
	}
}
