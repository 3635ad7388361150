package registrytest

import (
	"context"
	"errors"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
)

// impatient is a client that gives up after a second.
var impatient = spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
	soon, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return good.Register(soon, inst)
})

// reachable waits until the registry can be reached, or cannot.
func reachable(ctx context.Context, good registry.Registry, wanted bool) {
	for ctx.Err() == nil {
		if _, err := good.Fetch(ctx, "any"); errors.Is(err, registry.ErrUnavailable) != wanted {
			return
		}
		backoff.Wait(ctx, time.Second)
	}
}

var failureMutants = map[string][]spoil{
	"Failure/Register waits for the registry": {impatient},
	"Failure/Register gives up with its context": {
		spoilRegister(func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			reg, err := good.Register(ctx, inst)
			if ctx.Err() != nil {
				return reg, ctx.Err() // without the failure
			}
			return reg, err
		}),
		func(ctx context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, register: func(c context.Context, inst registry.Instance) (registry.Registration, error) {
				reg, err := good.Register(c, inst)
				if c.Err() != nil {
					beginAgain(ctx, good, inst) // in the background
				}
				return reg, err
			}}
		},
	},
	"Failure/Register refuses at once": {
		func(ctx context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, register: func(c context.Context, inst registry.Instance) (registry.Registration, error) {
				probe := inst
				probe.ID, probe.Addrs, probe.Service = "probe", []string{"10.1.1.1:1"}, "probe"
				probing, err := good.Register(c, probe) // asks the registry first
				if err == nil {
					probing.Deregister(c)
				}
				return good.Register(c, inst)
			}}
		},
	},
	"Failure/Fetch returns the last good set": {
		spoilFetch(func(snap registry.Snapshot, err error) (registry.Snapshot, error) {
			if !snap.Confirmed {
				return registry.Snapshot{}, registry.ErrUnavailable
			}
			return snap, err
		}),
		spoilFetch(func(snap registry.Snapshot, err error) (registry.Snapshot, error) {
			snap.Confirmed = true
			return snap, err
		}),
		spoilFetch(func(snap registry.Snapshot, err error) (registry.Snapshot, error) {
			snap.Reason = ""
			return snap, err
		}),
	},
	"Failure/Fetch says that nobody answers": {
		spoilFetch(func(snap registry.Snapshot, err error) (registry.Snapshot, error) {
			return snap, registry.ErrUnknownService
		}),
	},
	"Failure/Watch does not wait for the registry": {
		func(life context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, watch: func(ctx context.Context, service string) (registry.Watcher, error) {
				reachable(life, good, true)
				return good.Watch(ctx, service)
			}}
		},
		spoilNext(func() func(registry.Snapshot, error) (registry.Snapshot, error, bool) {
			return func(snap registry.Snapshot, err error) (registry.Snapshot, error, bool) { // waits until it is reached
				return snap, err, errors.Is(err, registry.ErrUnavailable)
			}
		}),
		repeats,
	},
	"Failure/Watch goes on": {
		spoilWatchers(func(_ context.Context, good registry.Watcher) registry.Watcher {
			frozen := false
			return spoiledWatcher{Watcher: good, next: func(ctx context.Context) (registry.Snapshot, error) {
				if frozen {
					<-ctx.Done()
					return registry.Snapshot{}, ctx.Err()
				}
				snap, err := good.Next(ctx)
				frozen = errors.Is(err, registry.ErrUnavailable)
				return snap, err
			}}
		}),
	},
	"Failure/an instance is there again": {
		func(life context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, register: func(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
				reg, err := good.Register(ctx, inst)
				go func() { // a heartbeat that gives up at the first failure
					reachable(life, good, false)
					ended, cancel := context.WithCancel(life)
					cancel()
					reg.Deregister(ended)
				}()
				return reg, err
			}}
		},
		spoilRegistrations(func(ctx context.Context, good registry.Registration) registry.Registration {
			return spoiledRegistration{Registration: good, events: func() <-chan registry.Event { return nil }}
		}),
	},
	"Failure/Update is written later": {
		func(ctx context.Context, good registry.Registry) registry.Registry {
			return spoilUpdate(func(good registry.Registration, c context.Context, inst registry.Instance) error {
				was := good.Instance()
				err := good.Update(c, inst)
				if err != nil {
					go good.Update(ctx, was) // forgets what was wanted
				}
				return err
			})(ctx, good)
		},
		spoilUpdate(func(good registry.Registration, ctx context.Context, inst registry.Instance) error {
			good.Update(ctx, inst)
			return nil
		}),
	},
	"Failure/Deregister ends the registration all the same": {
		spoilRegistrations(func(ctx context.Context, good registry.Registration) registry.Registration {
			return spoiledRegistration{Registration: good, deregister: func(c context.Context) error {
				good.Deregister(c)
				return nil
			}}
		}),
		func(ctx context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, register: func(c context.Context, inst registry.Instance) (registry.Registration, error) {
				reg, err := good.Register(c, inst)
				return spoiledRegistration{Registration: reg, deregister: func(c context.Context) error {
					err := reg.Deregister(c)
					if err != nil {
						beginAgain(ctx, good, inst) // the beat was not joined
					}
					return err
				}}, err
			}}
		},
	},
	"Failure/Close does not wait for the registry": {
		func(ctx context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, close: func() error {
				reachable(ctx, good, true)
				return good.Close()
			}}
		},
	},
}
