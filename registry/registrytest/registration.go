package registrytest

import (
	"errors"
	"slices"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// events returns all events of a registration that is over.
func (w *world) events(reg registry.Registration) (all []registry.Event) {
	w.Helper()
	ctx, events := w.within(), reg.Events()
	for {
		select {
		case e, open := <-events:
			if !open {
				return all
			}
			all = append(all, e)
		case <-ctx.Done():
			w.Fatalf("Events has not ended; so far there were %v", all)
		}
	}
}

// event waits for an event of one of these kinds.
func (w *world) event(reg registry.Registration, kinds ...registry.EventKind) {
	w.Helper()
	ctx := w.within()
	for {
		select {
		case e, open := <-reg.Events():
			if slices.Contains(kinds, e.Kind) {
				return
			}
			if !open {
				w.Fatalf("Events ended without any of %v", kinds)
			}
		case <-ctx.Done():
			w.Fatalf("no event of %v", kinds)
		}
	}
}

var registrationChecks = []check{
	{name: "Registration/Update replaces the content", run: func(w *world) {
		reg := w.register(w.client(), w.full(0))
		w.stranger(set(w.full(0)))
		bare := w.instance(0)
		bare.Addrs = []string{"10.0.0.77:9000"}
		w.update(reg, bare)
		if got := reg.Instance(); !got.Equal(bare) {
			w.Errorf("Instance() is %+v, want %+v", got, bare)
		}
		w.event(reg, registry.Registered)
		w.stranger(set(bare))
	}},

	{name: "Registration/Update refuses another identity", run: func(w *world) {
		reg := w.register(w.client(), w.instance(0))
		for what, spoil := range map[string]func(*registry.Instance){
			"another service": func(i *registry.Instance) { i.Service += "-other" },
			"another ID":      func(i *registry.Instance) { i.ID += "-other" },
			"another life":    func(i *registry.Instance) { i.Life += "-other" },
			"no address":      func(i *registry.Instance) { i.Addrs = nil },
		} {
			inst := w.instance(0)
			spoil(&inst)
			if err := reg.Update(w.within(), inst); !errors.Is(err, registry.ErrInvalid) {
				w.Errorf("Update with %s: %v, want ErrInvalid", what, err)
			}
		}
		if got := reg.Instance(); !got.Equal(w.instance(0)) {
			w.Errorf("Instance() is %+v after updates that were refused, want %+v", got, w.instance(0))
		}
		w.stranger(set(w.instance(0)))
	}},

	{name: "Registration/Update takes no address of another", run: func(w *world) {
		client := w.client()
		reg, other, moved := w.register(client, w.instance(0)), w.instance(1), w.instance(0)
		w.register(client, other)
		moved.Addrs = other.Addrs
		if err := reg.Update(w.within(), moved); !errors.Is(err, registry.ErrDuplicate) {
			w.Errorf("Update to an address of another: %v, want ErrDuplicate", err)
		}
		moved.Addrs = []string{"10.0.0.77:9000"}
		w.update(reg, moved)
		third := w.instance(2)
		third.Addrs = w.instance(0).Addrs // which is free now
		w.register(client, third)
		w.stranger(set(moved, other, third))
	}},

	{name: "Registration/Deregister removes the instance for good", run: func(w *world) {
		client := w.client()
		reg := w.register(client, w.instance(0))
		w.register(client, w.instance(1))
		w.deregister(reg)
		w.stranger(set(w.instance(1)))
		w.stays(set(w.instance(1)))
	}},

	{name: "Registration/Deregister frees the identity", run: func(w *world) {
		client := w.client()
		w.deregister(w.register(client, w.instance(0)))
		again := w.instance(0)
		again.Life = "another"
		w.register(client, again)
		w.stranger(set(again))
		w.stays(set(again))
	}},

	{name: "Registration/Deregister returns the same every time", run: func(w *world) {
		reg, ctx := w.register(w.client(), w.instance(0)), w.within()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := reg.Deregister(ctx); err != nil {
					w.Errorf("Deregister: %v", err)
				}
			})
		}
		w.returns("Deregister", wg.Wait)
		w.deregister(reg)
	}},

	{name: "Registration/is over after Deregister", run: func(w *world) {
		reg := w.register(w.client(), w.instance(0))
		w.deregister(reg)
		if err := reg.Update(w.within(), w.instance(0)); !errors.Is(err, registry.ErrClosed) {
			w.Errorf("Update after Deregister: %v, want ErrClosed", err)
		}
		w.stays(failure(registry.ErrUnknownService))
	}},

	{name: "Registration/Events end with Deregistered", run: func(w *world) {
		reg := w.register(w.client(), w.instance(0))
		w.deregister(reg)
		all := w.events(reg)
		if len(all) == 0 || all[len(all)-1].Kind != registry.Deregistered || all[len(all)-1].Err != nil {
			w.Errorf("the events were %v, want Deregistered without an error at the end", all)
		}
	}},

	{name: "Registration/Events hold nobody up", run: func(w *world) {
		reg := w.register(w.client(), w.instance(0))
		w.returns("Update, with events that nobody reads", func() {
			for n := range 100 {
				inst := w.instance(0)
				inst.Weight = uint32(n + 1)
				w.update(reg, inst)
			}
		})
		w.returns("Deregister, with events that nobody reads", func() { w.deregister(reg) })
		if all := w.events(reg); len(all) == 0 || all[len(all)-1].Kind != registry.Deregistered {
			w.Errorf("of the events %v are left, want the last ones", all)
		}
	}},

	{name: "Registration/Events tell of another process under the identity", run: func(w *world) {
		reg, other := w.register(w.client(), w.instance(0)), w.instance(1)
		other.ID = reg.Instance().ID
		w.register(w.client(), other)
		w.event(reg, registry.Collision)
	}},

	{name: "Registration/Update leaves an identity to who has taken it", run: func(w *world) {
		reg, other, update := w.register(w.client(), w.instance(0)), w.instance(1), w.instance(0)
		other.ID = reg.Instance().ID
		taken := w.register(w.client(), other)
		w.event(reg, registry.Collision)
		update.Weight = 7
		if err := reg.Update(w.within(), update); !errors.Is(err, registry.ErrTaken) {
			w.Errorf("Update of an instance whose identity was taken: %v, want ErrTaken", err)
		}
		w.stays(set(other))
		w.deregister(taken)
		w.stranger(set(update))
	}},

	{name: "Registration/Update and Deregister take turns", run: func(w *world) {
		reg, ctx := w.register(w.client(), w.instance(0)), w.within()
		var wg sync.WaitGroup
		for n := range 10 {
			wg.Go(func() {
				inst := w.instance(0)
				inst.Weight = uint32(n + 1)
				if err := reg.Update(ctx, inst); err != nil && !errors.Is(err, registry.ErrClosed) {
					w.Errorf("Update: %v", err)
				}
			})
		}
		wg.Go(func() {
			if err := reg.Deregister(ctx); err != nil {
				w.Errorf("Deregister: %v", err)
			}
		})
		w.returns("Update and Deregister", wg.Wait)
		w.stranger(failure(registry.ErrUnknownService))
		w.stays(failure(registry.ErrUnknownService))
	}},
}

var closeChecks = []check{
	{name: "Close/deregisters", run: func(w *world) {
		client := w.client()
		regs := []registry.Registration{w.register(client, w.instance(0)), w.register(client, w.instance(1))}
		w.register(w.client(), w.instance(2))
		w.returns("Close", func() {
			if err := client.Close(); err != nil {
				w.Errorf("Close: %v", err)
			}
		})
		for _, reg := range regs {
			w.events(reg)
		}
		w.stranger(set(w.instance(2)))
		w.stays(set(w.instance(2)))
	}},

	{name: "Close/ends watches", run: func(w *world) {
		client, woken, ctx := w.client(), make(chan error, 1), w.within()
		watcher := w.watch(client)
		w.await(watcher, failure(registry.ErrUnknownService))
		go func() {
			_, err := watcher.Next(ctx)
			woken <- err
		}()
		w.returns("Close", func() { client.Close() })
		w.returns("Next", func() {
			if err := <-woken; !errors.Is(err, registry.ErrClosed) {
				w.Errorf("Next while the Registry is closed: %v, want ErrClosed", err)
			}
		})
		w.returns("Close of the Watcher", func() { watcher.Close() })
	}},

	{name: "Close/refuses everything afterwards", run: func(w *world) {
		client := w.client()
		reg := w.register(client, w.instance(0))
		for range 2 {
			w.returns("Close", func() { client.Close() })
		}
		_, registered := client.Register(w.within(), w.instance(1))
		_, again := client.Register(w.within(), w.instance(1))
		_, fetched := client.Fetch(w.within(), w.service)
		_, watched := client.Watch(w.within(), w.service)
		for what, err := range map[string]error{
			"Register": registered, "Register again": again, "Fetch": fetched, "Watch": watched,
			"Update": reg.Update(w.within(), w.instance(0)),
		} {
			if !errors.Is(err, registry.ErrClosed) {
				w.Errorf("%s after Close: %v, want ErrClosed", what, err)
			}
		}
		w.returns("Deregister", func() { reg.Deregister(w.within()) })
		w.stays(failure(registry.ErrUnknownService))
	}},
}
