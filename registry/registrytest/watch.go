package registrytest

import (
	"context"
	"errors"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

var watchChecks = []check{
	{name: "Watch/begins with the set there is", run: func(w *world) {
		w.register(w.client(), w.instance(0))
		w.stranger(set(w.instance(0)))
	}},

	{name: "Watch/begins with the reason why there is none", run: func(w *world) {
		watcher := w.watch(w.client())
		w.await(watcher, failure(registry.ErrUnknownService))
		w.silent(watcher, "it had given that error already")
	}},

	{name: "Watch/refuses an empty name", run: func(w *world) {
		if _, err := w.client().Watch(w.within(), ""); !errors.Is(err, registry.ErrInvalid) {
			w.Errorf("Watch: %v, want ErrInvalid", err)
		}
	}},

	{name: "Watch/tells every kind of change", run: func(w *world) {
		client, watcher := w.client(), w.watch(w.client())
		a, b := w.instance(0), w.instance(1)
		regA := w.register(client, a)
		w.await(watcher, set(a))
		regB := w.register(client, b)
		w.await(watcher, set(a, b))
		b.Weight = 5
		w.update(regB, b)
		w.await(watcher, set(a, b))
		b.Status, b.Metadata = registry.Draining, map[string]string{"why": "restart"}
		w.update(regB, b)
		w.await(watcher, set(a, b))
		w.deregister(regB)
		w.await(watcher, set(a))
		w.deregister(regA)
		w.await(watcher, failure(registry.ErrUnknownService))
	}},

	{name: "Watch/tells when an error is over", run: func(w *world) {
		client, watcher := w.client(), w.watch(w.client())
		for range 2 { // the second time with the very same set
			reg := w.register(client, w.instance(0))
			w.await(watcher, set(w.instance(0)))
			w.deregister(reg)
			w.await(watcher, failure(registry.ErrUnknownService))
		}
	}},

	{name: "Watch/says nothing twice", run: func(w *world) {
		reg, watcher := w.register(w.client(), w.full(0)), w.watch(w.client())
		w.await(watcher, set(w.full(0)))
		w.silent(watcher, "nothing had happened")
		w.update(reg, w.full(0))
		watcher.Refresh()
		w.silent(watcher, "the same content was written again")
	}},

	{name: "Watch/tells the latest, not a backlog", run: func(w *world) {
		reg, watcher := w.register(w.client(), w.instance(0)), w.watch(w.client())
		w.await(watcher, set(w.instance(0)))
		inst := w.instance(0)
		for _, inst.Weight = range []uint32{10, 20, 30} {
			w.update(reg, inst)
			watcher.Refresh()
			w.stays(set(inst))
		}
		if snap, err := watcher.Next(w.within()); !set(inst).ok(snap, err) {
			w.Errorf("Next after several changes: %s, want %s", describe(snap, err), set(inst))
		}
		w.silent(watcher, "it had told the latest already")
	}},

	{name: "Watch/passes over what came and went", run: func(w *world) {
		reg, watcher := w.register(w.client(), w.instance(0)), w.watch(w.client())
		w.await(watcher, set(w.instance(0)))
		other := w.instance(0)
		other.Weight = 5
		w.update(reg, other)
		w.stays(set(other))
		w.update(reg, w.instance(0))
		w.stays(set(w.instance(0)))
		w.silent(watcher, "the set is again what it had told")
	}},

	{name: "Watch/outlives every context", run: func(w *world) {
		ctx, cancel := context.WithCancel(w.within())
		watcher, err := w.client().Watch(ctx, w.service)
		if err != nil {
			w.Fatalf("Watch: %v", err)
		}
		cancel()
		w.await(watcher, failure(registry.ErrUnknownService))
		w.silent(watcher, "nothing had happened")
		watcher.Next(ctx) // has ended
		w.register(w.client(), w.instance(0))
		w.await(watcher, set(w.instance(0)))
	}},

	{name: "Watch/serves every watcher", run: func(w *world) {
		client, other := w.client(), w.client()
		watchers := []registry.Watcher{w.watch(client), w.watch(client), w.watch(other), w.watch(client)}
		w.register(client, w.instance(0))
		for _, watcher := range watchers {
			w.await(watcher, set(w.instance(0)))
		}
		watchers[0].Close()
		w.register(client, w.instance(1))
		for _, watcher := range watchers[1:] {
			w.await(watcher, set(w.instance(0), w.instance(1)))
		}
	}},

	{name: "Watch/minds its own service", run: func(w *world) {
		client, watcher := w.client(), w.watch(w.client())
		w.await(watcher, failure(registry.ErrUnknownService))
		other := w.instance(0)
		other.Service += "-other"
		w.register(client, other)
		watcher.Refresh()
		w.silent(watcher, "only another service had changed")
	}},

	{name: "Watch/Refresh asks soon", run: func(w *world) {
		reg, watcher := w.register(w.client(), w.instance(0)), w.watch(w.client())
		w.await(watcher, set(w.instance(0)))
		w.silent(watcher, "nothing had happened")
		inst := w.instance(0)
		inst.Weight = 9
		w.update(reg, inst)
		watcher.Refresh()
		if snap, err := watcher.Next(w.timeout(w.timing.Soon)); !set(inst).ok(snap, err) {
			w.Errorf("Next, %v after Refresh: %s, want %s", w.timing.Soon, describe(snap, err), set(inst))
		}
	}},

	{name: "Watch/Refresh never blocks", run: func(w *world) {
		watcher := w.watch(w.client())
		w.returns("Refresh", func() {
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for range 250 {
						watcher.Refresh()
					}
				})
			}
			wg.Wait()
		})
		w.register(w.client(), w.instance(0))
		w.await(watcher, set(w.instance(0)))
		watcher.Close()
		w.returns("Refresh after Close", watcher.Refresh)
	}},

	{name: "Watch/Close wakes Next", run: func(w *world) {
		watcher := w.watch(w.client())
		w.await(watcher, failure(registry.ErrUnknownService))
		woken, ctx := make(chan error, 1), w.within()
		go func() {
			_, err := watcher.Next(ctx)
			woken <- err
		}()
		for range 2 {
			w.returns("Close", func() {
				if err := watcher.Close(); err != nil {
					w.Errorf("Close: %v", err)
				}
			})
		}
		w.returns("Next", func() {
			if err := <-woken; !errors.Is(err, registry.ErrClosed) {
				w.Errorf("Next while Close is called: %v, want ErrClosed", err)
			}
		})
		if _, err := watcher.Next(w.within()); !errors.Is(err, registry.ErrClosed) {
			w.Errorf("Next after Close: %v, want ErrClosed", err)
		}
	}},
}
