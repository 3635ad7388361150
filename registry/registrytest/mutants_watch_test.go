package registrytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
)

type watched struct {
	snap registry.Snapshot
	err  error
}

// backlog tells everything that ever was, in turn.
var backlog = spoilWatchers(func(ctx context.Context, good registry.Watcher) registry.Watcher {
	queue := make(chan watched, 100)
	go func() {
		for {
			snap, err := good.Next(ctx)
			if ctx.Err() != nil || errors.Is(err, registry.ErrClosed) {
				return
			}
			queue <- watched{snap, err}
		}
	}()
	return spoiledWatcher{Watcher: good, next: func(c context.Context) (registry.Snapshot, error) {
		select {
		case one := <-queue:
			return one.snap, one.err
		case <-c.Done():
			return registry.Snapshot{}, c.Err()
		}
	}}
})

// spoilNext lets how decide about what Next would return; again makes it go on
// without returning.
func spoilNext(how func() func(snap registry.Snapshot, err error) (s registry.Snapshot, e error, again bool)) spoil {
	return spoilWatchers(func(_ context.Context, good registry.Watcher) registry.Watcher {
		decide := how()
		return spoiledWatcher{Watcher: good, next: func(ctx context.Context) (registry.Snapshot, error) {
			for {
				snap, err := good.Next(ctx)
				if ctx.Err() != nil || errors.Is(err, registry.ErrClosed) {
					return snap, err
				}
				if snap, err, again := decide(snap, err); !again {
					return snap, err
				}
			}
		}}
	})
}

// repeats says the same again after a while.
var repeats = spoilWatchers(func(_ context.Context, good registry.Watcher) registry.Watcher {
	var last watched
	return spoiledWatcher{Watcher: good, next: func(ctx context.Context) (registry.Snapshot, error) {
		soon, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		snap, err := good.Next(soon)
		if soon.Err() != nil && ctx.Err() == nil {
			return last.snap, last.err
		}
		last = watched{snap, err}
		return snap, err
	}}
})

var watchMutants = map[string][]spoil{
	"Watch/begins with the set there is": {
		spoilNext(func() func(registry.Snapshot, error) (registry.Snapshot, error, bool) {
			first := true // which is taken for known
			return func(snap registry.Snapshot, err error) (registry.Snapshot, error, bool) {
				again := first
				first = false
				return snap, err, again
			}
		}),
	},
	"Watch/begins with the reason why there is none": {
		repeats,
		spoilNext(func() func(registry.Snapshot, error) (registry.Snapshot, error, bool) {
			return func(snap registry.Snapshot, err error) (registry.Snapshot, error, bool) { return snap, err, err != nil }
		}),
	},
	"Watch/refuses an empty name": {
		func(_ context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, watch: func(ctx context.Context, service string) (registry.Watcher, error) {
				w, err := good.Watch(ctx, service)
				return w, plain(err)
			}}
		},
	},
	"Watch/tells every kind of change": {
		spoilNext(func() func(registry.Snapshot, error) (registry.Snapshot, error, bool) {
			count := -1 // looks at the number of instances only
			return func(snap registry.Snapshot, err error) (registry.Snapshot, error, bool) {
				again := count == len(snap.Instances)
				count = len(snap.Instances)
				return snap, err, again
			}
		}),
		spoilNext(func() func(registry.Snapshot, error) (registry.Snapshot, error, bool) {
			return func(snap registry.Snapshot, err error) (registry.Snapshot, error, bool) { // never empty
				return snap, err, errors.Is(err, registry.ErrUnknownService)
			}
		}),
	},
	"Watch/tells when an error is over": {
		spoilNext(func() func(registry.Snapshot, error) (registry.Snapshot, error, bool) {
			var last registry.Snapshot // whatever came between
			return func(snap registry.Snapshot, err error) (registry.Snapshot, error, bool) {
				again := err == nil && snap.Equal(last)
				if err == nil {
					last = snap
				}
				return snap, err, again
			}
		}),
	},
	"Watch/says nothing twice":              {repeats},
	"Watch/tells the latest, not a backlog": {backlog},
	"Watch/passes over what came and went":  {backlog},
	"Watch/outlives every context": {
		func(_ context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, watch: func(ctx context.Context, service string) (registry.Watcher, error) {
				w, err := good.Watch(ctx, service)
				context.AfterFunc(ctx, func() { w.Close() })
				return w, err
			}}
		},
		spoilWatchers(func(_ context.Context, good registry.Watcher) registry.Watcher {
			return spoiledWatcher{Watcher: good, next: func(ctx context.Context) (registry.Snapshot, error) {
				snap, err := good.Next(ctx)
				if ctx.Err() != nil {
					good.Close()
				}
				return snap, err
			}}
		}),
		spoilWatchers(func(_ context.Context, good registry.Watcher) registry.Watcher {
			return spoiledWatcher{Watcher: good, next: func(ctx context.Context) (registry.Snapshot, error) {
				snap, err := good.Next(ctx)
				if ctx.Err() != nil {
					err = fmt.Errorf("next: %w", err)
				}
				return snap, err
			}}
		}),
	},
	"Watch/serves every watcher": {
		func(_ context.Context, good registry.Registry) registry.Registry {
			var mu sync.Mutex // guards shared
			var shared registry.Watcher
			return spoiled{Registry: good, watch: func(ctx context.Context, service string) (registry.Watcher, error) {
				mu.Lock()
				defer mu.Unlock()
				if shared != nil {
					return shared, nil
				}
				w, err := good.Watch(ctx, service)
				shared = w
				return w, err
			}}
		},
	},
	"Watch/minds its own service": {
		func(_ context.Context, good registry.Registry) registry.Registry {
			return spoiled{Registry: good, watch: func(ctx context.Context, service string) (registry.Watcher, error) {
				return good.Watch(ctx, service+"-other")
			}}
		},
	},
	"Watch/Refresh asks soon": {
		spoilWatchers(func(_ context.Context, good registry.Watcher) registry.Watcher {
			return spoiledWatcher{Watcher: good, next: func(ctx context.Context) (registry.Snapshot, error) {
				if err := backoff.Wait(ctx, time.Minute); err != nil { // the next poll
					return registry.Snapshot{}, err
				}
				return good.Next(ctx)
			}}
		}),
	},
	"Watch/Refresh never blocks": {
		spoilWatchers(func(ctx context.Context, good registry.Watcher) registry.Watcher {
			return spoiledWatcher{Watcher: good, refresh: func() { <-ctx.Done() }}
		}),
	},
	"Watch/Close wakes Next": {
		spoilWatchers(func(ctx context.Context, good registry.Watcher) registry.Watcher {
			return spoiledWatcher{Watcher: good, close: func() error { return nil }}
		}),
		spoilWatchers(func(ctx context.Context, good registry.Watcher) registry.Watcher {
			return spoiledWatcher{Watcher: good, next: func(ctx context.Context) (registry.Snapshot, error) {
				snap, err := good.Next(ctx)
				if errors.Is(err, registry.ErrClosed) {
					err = plain(err)
				}
				return snap, err
			}}
		}),
		spoilWatchers(func(ctx context.Context, good registry.Watcher) registry.Watcher {
			closed := false
			return spoiledWatcher{Watcher: good, close: func() error {
				if closed {
					return registry.ErrClosed
				}
				closed = true
				return good.Close()
			}}
		}),
	},
}
