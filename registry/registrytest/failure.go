package registrytest

import (
	"context"
	"errors"

	"github.com/rollcall-go/rollcall/registry"
)

// unconfirmed is a last good set that is kept for a reason.
func unconfirmed(instances ...registry.Instance) answer {
	want := set(instances...)
	return answer{want.text + ", unconfirmed, and why", func(snap registry.Snapshot, err error) bool {
		doubtful := !snap.Confirmed && snap.Reason != ""
		snap.Confirmed = true
		return doubtful && want.ok(snap, err)
	}}
}

var outageChecks = []check{
	{name: "Failure/Register waits for the registry", fault: true, run: func(w *world) {
		client, ctx, done := w.client(), w.within(), make(chan error, 1)
		w.backend.Stop()
		go func() {
			_, err := client.Register(ctx, w.instance(0))
			done <- err
		}()
		<-w.quiet().Done()
		w.backend.Start()
		w.returns("Register", func() {
			if err := <-done; err != nil {
				w.Errorf("Register: %v", err)
			}
		})
		w.stranger(set(w.instance(0)))
	}},

	{name: "Failure/Register gives up with its context", fault: true, run: func(w *world) {
		client := w.client()
		w.backend.Stop()
		var err error
		w.returns("Register", func() { _, err = client.Register(w.quiet(), w.instance(0)) })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, registry.ErrUnavailable) {
			w.Errorf("Register: %v, want context.DeadlineExceeded joined with ErrUnavailable", err)
		}
		w.backend.Start()
		w.stays(failure(registry.ErrUnknownService))
		w.register(client, w.instance(0))
	}},

	{name: "Failure/Register refuses at once", fault: true, run: func(w *world) {
		client := w.client()
		w.register(client, w.instance(0))
		w.backend.Stop()
		defer w.backend.Start()
		for want, inst := range map[error]registry.Instance{
			registry.ErrInvalid:   {Service: w.service},
			registry.ErrDuplicate: w.instance(0),
		} {
			w.returns("Register", func() {
				if _, err := client.Register(context.Background(), inst); !errors.Is(err, want) {
					w.Errorf("Register: %v, want %q at once", err, want)
				}
			})
		}
	}},

	{name: "Failure/Fetch returns the last good set", fault: true, run: func(w *world) {
		client := w.client()
		w.register(w.client(), w.instance(0))
		w.stranger(set(w.instance(0)))
		client.Fetch(w.within(), w.service)
		w.backend.Stop()
		defer w.backend.Start()
		<-w.quiet().Done()
		want := unconfirmed(w.instance(0))
		if snap, err := client.Fetch(w.within(), w.service); !want.ok(snap, err) {
			w.Errorf("Fetch: %s, want %s", describe(snap, err), want)
		}
	}},

	{name: "Failure/Fetch says that nobody answers", fault: true, run: func(w *world) {
		client := w.client()
		w.backend.Stop()
		defer w.backend.Start()
		if snap, err := client.Fetch(w.within(), w.service); !errors.Is(err, registry.ErrUnavailable) {
			w.Errorf("Fetch: %s, want ErrUnavailable", describe(snap, err))
		}
	}},

	{name: "Failure/Watch does not wait for the registry", fault: true, run: func(w *world) {
		client := w.client()
		w.backend.Stop()
		var watcher registry.Watcher
		w.returns("Watch", func() { watcher = w.watch(client) })
		w.await(watcher, failure(registry.ErrUnavailable))
		w.silent(watcher, "it had given that error already")
		w.backend.Start()
		w.await(watcher, failure(registry.ErrUnknownService))
	}},

	{name: "Failure/Watch goes on", fault: true, run: func(w *world) {
		watcher := w.watch(w.client())
		w.register(w.client(), w.instance(0))
		w.await(watcher, set(w.instance(0)))
		w.backend.Stop()
		w.await(watcher, failure(registry.ErrUnavailable))
		w.backend.Start()
		w.await(watcher, set(w.instance(0)))
	}},

	{name: "Failure/an instance is there again", fault: true, run: func(w *world) {
		reg := w.register(w.client(), w.instance(0))
		w.backend.Stop()
		w.event(reg, registry.RenewFailed)
		<-w.quiet().Done() // no number of failures is enough to give up
		w.backend.Start()
		w.event(reg, registry.Renewed, registry.Registered)
		w.stranger(set(w.instance(0)))
	}},

	{name: "Failure/Update is written later", fault: true, run: func(w *world) {
		reg, inst := w.register(w.client(), w.instance(0)), w.instance(0)
		w.backend.Stop()
		inst.Weight = 9
		if err := reg.Update(w.quiet(), inst); err == nil {
			w.Errorf("Update has written to a registry that is not there")
		}
		w.backend.Start()
		w.stranger(set(inst))
		w.stays(set(inst))
	}},

	{name: "Failure/Deregister ends the registration all the same", fault: true, run: func(w *world) {
		client := w.client()
		reg := w.register(client, w.instance(0))
		w.backend.Stop()
		first := reg.Deregister(w.quiet())
		if again := reg.Deregister(w.within()); first == nil || again == nil || again.Error() != first.Error() {
			w.Errorf("Deregister: first %v, then %v; want the same error", first, again)
		}
		if all := w.events(reg); len(all) == 0 || all[len(all)-1].Kind != registry.Deregistered || all[len(all)-1].Err == nil {
			w.Errorf("the events were %v, want Deregistered with an error at the end", all)
		}
		w.backend.Start()
		w.stranger(failure(registry.ErrUnknownService)) // no beat, and the lease is over
		w.stays(failure(registry.ErrUnknownService))
		w.register(client, w.instance(0))
	}},

	{name: "Failure/Close does not wait for the registry", fault: true, run: func(w *world) {
		client := w.client()
		reg, watcher := w.register(client, w.instance(0)), w.watch(client)
		w.backend.Stop()
		defer w.backend.Start()
		w.returns("Close", func() { client.Close() })
		w.events(reg)
		if _, err := watcher.Next(w.within()); !errors.Is(err, registry.ErrClosed) {
			w.Errorf("Next after Close: %v, want ErrClosed", err)
		}
	}},
}
