package registrytest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/rollcall-go/rollcall/registry"
)

// full is an instance that uses every field.
func (w *world) full(n int) registry.Instance {
	inst := w.instance(n)
	inst.Addrs = append(inst.Addrs, "[2001:db8::1]:9000")
	inst.TLS, inst.Weight, inst.Status = true, 7, registry.Draining
	inst.Zone, inst.Version = "zone a", "v1.2.3-rc+4"
	inst.Metadata = map[string]string{"team": "a&b=c?d", "ключ": "значение", "empty": ""}
	return inst
}

var registerChecks = []check{
	{name: "Register/stores every field", run: func(w *world) {
		inst := w.full(0)
		reg := w.register(w.client(), inst)
		if got := reg.Instance(); !got.Equal(inst) {
			w.Errorf("Instance() is %+v, want %+v", got, inst)
		}
		w.stranger(set(inst))
	}},

	{name: "Register/shares nothing with its caller", run: func(w *world) {
		inst := w.full(0)
		reg := w.register(w.client(), inst)
		inst.Addrs[0], inst.Metadata["team"] = "10.9.9.9:1", "changed"
		got := reg.Instance()
		got.Addrs[0], got.Metadata["team"] = "10.9.9.9:1", "changed"
		if got := reg.Instance(); !got.Equal(w.full(0)) {
			w.Errorf("a change from outside reached the registration: %+v", got)
		}
		w.stranger(set(w.full(0)))
	}},

	{name: "Register/refuses an invalid instance", run: func(w *world) {
		client := w.client()
		for what, spoil := range map[string]func(*registry.Instance){
			"no service":   func(i *registry.Instance) { i.Service = "" },
			"no ID":        func(i *registry.Instance) { i.ID = "" },
			"no address":   func(i *registry.Instance) { i.Addrs = nil },
			"no port":      func(i *registry.Instance) { i.Addrs = []string{"10.0.0.1"} },
			"odd status":   func(i *registry.Instance) { i.Status = 3 },
			"reserved key": func(i *registry.Instance) { i.Metadata = map[string]string{registry.ReservedKeys()[0]: "x"} },
		} {
			inst := w.instance(0)
			spoil(&inst)
			if _, err := client.Register(w.within(), inst); !errors.Is(err, registry.ErrInvalid) {
				w.Errorf("Register with %s: %v, want ErrInvalid", what, err)
			}
		}
		w.stranger(failure(registry.ErrUnknownService))
	}},

	{name: "Register/refuses an ID it holds", run: func(w *world) {
		client, first, second := w.client(), w.instance(0), w.instance(1)
		w.register(client, first)
		second.ID = first.ID
		if _, err := client.Register(w.within(), second); !errors.Is(err, registry.ErrDuplicate) {
			w.Errorf("Register of an ID once more: %v, want ErrDuplicate", err)
		}
		w.stranger(set(first))
	}},

	{name: "Register/refuses an address it holds", run: func(w *world) {
		client, first, second := w.client(), w.instance(0), w.instance(1)
		w.register(client, first)
		second.Addrs = append(second.Addrs, first.Addrs...)
		if _, err := client.Register(w.within(), second); !errors.Is(err, registry.ErrDuplicate) {
			w.Errorf("Register of an address once more: %v, want ErrDuplicate", err)
		}
		w.stranger(set(first))
	}},

	{name: "Register/takes several services of one process", run: func(w *world) {
		client, first, second := w.client(), w.instance(0), w.instance(0)
		second.Service += "-other"
		w.register(client, first)
		w.register(client, second)
		w.stranger(set(first))
	}},

	{name: "Register/leaves nothing when its context has ended", run: func(w *world) {
		client := w.client()
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := client.Register(ended, w.instance(0)); !errors.Is(err, context.Canceled) {
			w.Errorf("Register with a cancelled context: %v, want context.Canceled", err)
		}
		w.stays(failure(registry.ErrUnknownService))
		w.register(client, w.instance(0))
	}},

	{name: "Register/keeps the instance beyond its context and any lease", run: func(w *world) {
		client := w.client()
		ctx, cancel := context.WithCancel(w.within())
		if _, err := client.Register(ctx, w.instance(0)); err != nil {
			w.Fatalf("Register: %v", err)
		}
		cancel()
		w.stays(set(w.instance(0)))
	}},

	{name: "Register/works for many goroutines", run: func(w *world) {
		client, ctx, twin := w.client(), w.within(), w.instance(99)
		var all []registry.Instance
		var twins atomic.Int32
		var wg sync.WaitGroup
		for n := range 20 {
			all = append(all, w.instance(n))
			wg.Go(func() {
				if _, err := client.Register(ctx, w.instance(n)); err != nil {
					w.Errorf("Register: %v", err)
				}
			})
			wg.Go(func() {
				switch _, err := client.Register(ctx, twin); {
				case err == nil:
					twins.Add(1)
				case !errors.Is(err, registry.ErrDuplicate):
					w.Errorf("Register of a twin: %v, want ErrDuplicate", err)
				}
			})
		}
		w.returns("Register", wg.Wait)
		if n := twins.Load(); n != 1 {
			w.Errorf("one ID was registered %d times at once, want once", n)
		}
		w.stranger(set(append(all, twin)...))
	}},
}

var fetchChecks = []check{
	{name: "Fetch/returns the whole set in the order of IDs", run: func(w *world) {
		client := w.client()
		for _, n := range []int{2, 0, 1} {
			w.register(client, w.instance(n))
		}
		draining := w.full(3)
		w.register(client, draining)
		want := set(w.instance(0), w.instance(1), w.instance(2), draining)
		w.stranger(want)
		switch snap, err := w.client().Fetch(w.within(), w.service); {
		case !want.ok(snap, err):
			w.Errorf("Fetch: %s, want %s", describe(snap, err), want)
		case snap.Service != w.service || snap.Source == "":
			w.Errorf("the set is of service %q from %q, want %q from somewhere", snap.Service, snap.Source, w.service)
		}
	}},

	{name: "Fetch/says that a service is unknown", run: func(w *world) {
		if snap, err := w.client().Fetch(w.within(), w.service); !errors.Is(err, registry.ErrUnknownService) {
			w.Errorf("Fetch: %s, want ErrUnknownService", describe(snap, err))
		}
	}},

	{name: "Fetch/refuses an empty name", run: func(w *world) {
		if snap, err := w.client().Fetch(w.within(), ""); !errors.Is(err, registry.ErrInvalid) {
			w.Errorf("Fetch: %s, want ErrInvalid", describe(snap, err))
		}
	}},

	{name: "Fetch/does not answer from an old cache", run: func(w *world) {
		client, inst := w.client(), w.instance(0)
		reg := w.register(w.client(), inst)
		w.stranger(set(inst))
		client.Fetch(w.within(), w.service)
		inst.Weight = 9
		w.update(reg, inst)
		<-w.quiet().Done()
		if snap, err := client.Fetch(w.within(), w.service); !set(inst).ok(snap, err) {
			w.Errorf("Fetch %v after a change: %s, want %s", w.timing.Quiet, describe(snap, err), set(inst))
		}
	}},
}
