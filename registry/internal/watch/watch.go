// Package watch hands the latest state of one service to any number of
// watchers: the part of registry.Watcher that does not depend on where the
// state comes from.
package watch

import (
	"context"
	"fmt"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// Topic holds the latest state of one service: a Snapshot, or the error that
// says why there is none. The zero Topic has no state yet.
type Topic struct {
	mu      sync.Mutex // guards all below; nothing is called under it
	current state
	changed chan struct{} // closed and replaced at every change; nil until someone waits
}

// state is what a watcher can be told. seq is 0 before the first.
type state struct {
	seq  uint64
	snap registry.Snapshot
	err  error
}

func (s state) same(o state) bool {
	if s.err != nil || o.err != nil {
		return s.err != nil && o.err != nil && s.err.Error() == o.err.Error()
	}
	return s.snap.Equal(o.snap)
}

// Publish makes the Snapshot, or the error if that is not nil, the latest
// state, and reports whether it differs from the one before. What does not
// differ wakes nobody. A Snapshot with an error is the set that stands: whoever
// starts to watch now gets it first, and then the error.
func (t *Topic) Publish(snap registry.Snapshot, err error) bool {
	next := state{snap: snap, err: err}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.seq > 0 && t.current.same(next) {
		return false
	}
	next.seq = t.current.seq + 1
	t.current = next
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
	return true
}

// Latest returns the latest state; ok is false before the first.
func (t *Topic) Latest() (snap registry.Snapshot, err error, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current.snap, t.current.err, t.current.seq > 0
}

// next returns the latest state and a channel that is closed when it changes.
func (t *Topic) next() (state, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.current, t.changed
}

// Watch returns a watcher of the topic. refresh is what its Refresh does and
// release what its first Close waits for; either may be nil.
func (t *Topic) Watch(refresh, release func()) registry.Watcher {
	return &watcher{topic: t, refresh: refresh, release: release, closed: make(chan struct{})}
}

type watcher struct {
	topic            *Topic
	refresh, release func()

	seen  state // the last state returned; only Next touches it and stood
	stood bool  // the set that stands was returned, its error not yet

	closeOnce sync.Once
	closed    chan struct{}
}

func (w *watcher) Next(ctx context.Context) (registry.Snapshot, error) {
	for {
		current, changed := w.topic.next()
		select {
		case <-w.closed:
			return registry.Snapshot{}, fmt.Errorf("registry: watch: %w", registry.ErrClosed)
		default:
		}
		if err := ctx.Err(); err != nil {
			return registry.Snapshot{}, err
		}
		if w.seen.seq == 0 && !w.stood && current.err != nil && len(current.snap.Instances) > 0 {
			w.stood = true // the error is next
			return current.snap, nil
		}
		// A state that came and went between two calls is not news.
		if current.seq > w.seen.seq && (w.seen.seq == 0 || !current.same(w.seen)) {
			w.seen = current
			if current.err != nil {
				return registry.Snapshot{}, current.err
			}
			return current.snap, nil
		}
		select {
		case <-changed:
		case <-w.closed:
		case <-ctx.Done():
		}
	}
}

func (w *watcher) Refresh() {
	if w.refresh != nil {
		w.refresh()
	}
}

func (w *watcher) Close() error {
	w.closeOnce.Do(func() {
		close(w.closed)
		if w.release != nil {
			w.release()
		}
	})
	return nil
}
