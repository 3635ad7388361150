package registrytest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// spoiled is a Registry of which parts have been replaced.
type spoiled struct {
	registry.Registry
	register func(context.Context, registry.Instance) (registry.Registration, error)
	fetch    func(context.Context, string) (registry.Snapshot, error)
	watch    func(context.Context, string) (registry.Watcher, error)
	close    func() error
}

func (s spoiled) Register(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
	if s.register == nil {
		return s.Registry.Register(ctx, inst)
	}
	return s.register(ctx, inst)
}

func (s spoiled) Fetch(ctx context.Context, service string) (registry.Snapshot, error) {
	if s.fetch == nil {
		return s.Registry.Fetch(ctx, service)
	}
	return s.fetch(ctx, service)
}

func (s spoiled) Watch(ctx context.Context, service string) (registry.Watcher, error) {
	if s.watch == nil {
		return s.Registry.Watch(ctx, service)
	}
	return s.watch(ctx, service)
}

func (s spoiled) Close() error {
	if s.close == nil {
		return s.Registry.Close()
	}
	return s.close()
}

// spoiledWatcher and spoiledRegistration are the same for what a Registry
// returns.
type spoiledWatcher struct {
	registry.Watcher
	next    func(context.Context) (registry.Snapshot, error)
	refresh func()
	close   func() error
}

func (s spoiledWatcher) Next(ctx context.Context) (registry.Snapshot, error) {
	if s.next == nil {
		return s.Watcher.Next(ctx)
	}
	return s.next(ctx)
}

func (s spoiledWatcher) Refresh() {
	if s.refresh == nil {
		s.Watcher.Refresh()
	} else {
		s.refresh()
	}
}

func (s spoiledWatcher) Close() error {
	if s.close == nil {
		return s.Watcher.Close()
	}
	return s.close()
}

type spoiledRegistration struct {
	registry.Registration
	instance   func() registry.Instance
	update     func(context.Context, registry.Instance) error
	deregister func(context.Context) error
	events     func() <-chan registry.Event
}

func (s spoiledRegistration) Instance() registry.Instance {
	if s.instance == nil {
		return s.Registration.Instance()
	}
	return s.instance()
}

func (s spoiledRegistration) Update(ctx context.Context, inst registry.Instance) error {
	if s.update == nil {
		return s.Registration.Update(ctx, inst)
	}
	return s.update(ctx, inst)
}

func (s spoiledRegistration) Deregister(ctx context.Context) error {
	if s.deregister == nil {
		return s.Registration.Deregister(ctx)
	}
	return s.deregister(ctx)
}

func (s spoiledRegistration) Events() <-chan registry.Event {
	if s.events == nil {
		return s.Registration.Events()
	}
	return s.events()
}

// spoil makes a broken client of a good one; ctx ends with the test, so that
// what hangs for ever can end then.
type spoil func(ctx context.Context, good registry.Registry) registry.Registry

// spoilWatchers and spoilRegistrations spoil only what a Registry returns.
func spoilWatchers(how func(ctx context.Context, good registry.Watcher) registry.Watcher) spoil {
	return func(ctx context.Context, good registry.Registry) registry.Registry {
		return spoiled{Registry: good, watch: func(c context.Context, service string) (registry.Watcher, error) {
			w, err := good.Watch(c, service)
			if err != nil {
				return nil, err
			}
			return how(ctx, w), nil
		}}
	}
}

func spoilRegistrations(how func(ctx context.Context, good registry.Registration) registry.Registration) spoil {
	return func(ctx context.Context, good registry.Registry) registry.Registry {
		return spoiled{Registry: good, register: func(c context.Context, inst registry.Instance) (registry.Registration, error) {
			reg, err := good.Register(c, inst)
			if err != nil {
				return nil, err
			}
			return how(ctx, reg), nil
		}}
	}
}

// spoilRegister, spoilFetch, spoilNext and so on spoil one method.
func spoilRegister(how func(good registry.Registry, ctx context.Context, inst registry.Instance) (registry.Registration, error)) spoil {
	return func(_ context.Context, good registry.Registry) registry.Registry {
		return spoiled{Registry: good, register: func(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
			return how(good, ctx, inst)
		}}
	}
}

func spoilFetch(how func(snap registry.Snapshot, err error) (registry.Snapshot, error)) spoil {
	return func(_ context.Context, good registry.Registry) registry.Registry {
		return spoiled{Registry: good, fetch: func(ctx context.Context, service string) (registry.Snapshot, error) {
			return how(good.Fetch(ctx, service))
		}}
	}
}

func spoilUpdate(how func(good registry.Registration, ctx context.Context, inst registry.Instance) error) spoil {
	return spoilRegistrations(func(_ context.Context, good registry.Registration) registry.Registration {
		return spoiledRegistration{Registration: good, update: func(ctx context.Context, inst registry.Instance) error {
			return how(good, ctx, inst)
		}}
	})
}

// recorder notes what a *testing.T would show.
type recorder struct {
	mu       sync.Mutex // guards failures
	failures []string
}

func (*recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// findings are the failures that the check finds in the backend.
func (c check) findings(backend Backend) []string {
	r, done := new(recorder), make(chan struct{})
	go func() {
		defer close(done)
		c.try(r, backend, bubble)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.failures)
}
