package registrytest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/watch"
)

// faultyWatcher returns what the fault of the moment makes of what another
// Watcher says.
type faultyWatcher struct {
	faulty  *Faulty
	service string
	inner   registry.Watcher
	life    context.Context // ends with Close
	end     context.CancelFunc

	// All below is Next's alone.
	told  watch.Topic // what Next has returned
	known bool        // whether inner has said anything
	snap  registry.Snapshot
	err   error
	due   time.Time // when that may be told
}

func (w *faultyWatcher) Next(ctx context.Context) (registry.Snapshot, error) {
	for {
		fault, current := w.faulty.now()
		if w.life.Err() != nil {
			return registry.Snapshot{}, fmt.Errorf("registrytest: faulty: watch: %w", registry.ErrClosed)
		}
		if err := ctx.Err(); err != nil {
			return registry.Snapshot{}, err
		}
		late := time.Until(w.due)
		if fault.Down || w.known && late <= 0 {
			snap, err := fault.apply(w.service, w.snap, w.err)
			if w.told.Publish(snap, err) {
				w.faulty.keep(fault, w.snap, w.err)
				return snap, err
			}
		}
		w.wait(ctx, current, fault, late)
	}
}

// wait waits until there may be something to tell.
func (w *faultyWatcher) wait(ctx, current context.Context, fault Fault, late time.Duration) {
	ctx, cancel := either(ctx, current)
	defer cancel()
	ctx, cancelLife := either(ctx, w.life)
	defer cancelLife()
	switch {
	case fault.Down:
		<-ctx.Done()
		if w.known { // the first answer after it is that of then
			w.snap, w.err = w.faulty.inner.Fetch(w.life, w.service)
		}
		return
	case fault.Frozen && w.known && late <= 0:
		<-ctx.Done()
		return
	case w.known && late > 0:
		select {
		case <-time.After(late):
		case <-ctx.Done():
		}
		return
	}
	snap, err := w.inner.Next(ctx)
	switch {
	case errors.Is(err, registry.ErrClosed):
		w.end()
		return
	case err != nil && ctx.Err() != nil:
		return
	}
	w.known, w.snap, w.err, w.due = true, snap, err, time.Now().Add(fault.Delay)
}

func (w *faultyWatcher) Refresh() { w.inner.Refresh() }

func (w *faultyWatcher) Close() error {
	w.end()
	return w.inner.Close()
}
