// Package memory is a registry within one process: for tests, and for programs
// that run client and server together. It keeps the whole contract of
// registry.Registry; changes reach watchers at once.
package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/claim"
)

// Registry is one client of a registry in memory. Make the first with New and
// further ones, each with registrations of its own, with Client.
type Registry struct {
	store  *store
	claims claim.Set

	mu            sync.Mutex // guards all below; taken before store.mu, and no Deregister or Close is called under it
	closed        bool
	registrations map[*registration]struct{}
	watchers      map[registry.Watcher]struct{}
}

var _ registry.Registry = (*Registry)(nil)

// New returns a client of a new, empty registry.
func New() *Registry { return newClient(newStore()) }

// Client returns another client of the same registry, as another process would
// have: it may register what this one has registered (and takes the identity
// over until it deregisters), and its Close does not touch this one.
func (r *Registry) Client() *Registry { return newClient(r.store) }

func newClient(s *store) *Registry {
	return &Registry{
		store:         s,
		registrations: map[*registration]struct{}{},
		watchers:      map[registry.Watcher]struct{}{},
	}
}

// Register implements registry.Registry.
func (r *Registry) Register(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
	if err := inst.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("memory: register %s of %q: %w", inst.ID, inst.Service, err)
	}
	claimed, err := r.claims.Add(inst)
	if err != nil {
		return nil, fmt.Errorf("memory: register: %w", err)
	}
	reg := newRegistration(r, claimed, inst)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		claimed.Release()
		return nil, errClosed
	}
	r.registrations[reg] = struct{}{}
	r.store.register(reg, reg.inst)
	return reg, nil
}

// LocalAddr returns the loopback address: whoever uses this registry is in the
// same process. It is what a server advertises that listens on all interfaces.
func (r *Registry) LocalAddr(context.Context) (netip.Addr, error) {
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

// Fetch implements registry.Registry. The answer is always fresh.
func (r *Registry) Fetch(ctx context.Context, service string) (registry.Snapshot, error) {
	if err := r.usable(service); err != nil {
		return registry.Snapshot{}, err
	}
	if err := ctx.Err(); err != nil {
		return registry.Snapshot{}, err
	}
	snap, err, _ := r.store.topic(service).Latest()
	return snap, err
}

// Watch implements registry.Registry.
func (r *Registry) Watch(_ context.Context, service string) (registry.Watcher, error) {
	if err := r.usable(service); err != nil {
		return nil, err
	}
	var w registry.Watcher
	w = r.store.topic(service).Watch(nil, func() { r.forget(w) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	r.watchers[w] = struct{}{}
	return w, nil
}

func (r *Registry) forget(w registry.Watcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.watchers, w)
}

// done forgets a registration that is over.
func (r *Registry) done(reg *registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.registrations, reg)
}

// Close implements registry.Registry.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	registrations, watchers := maps.Clone(r.registrations), maps.Clone(r.watchers)
	r.mu.Unlock()
	var errs []error
	for reg := range registrations {
		errs = append(errs, reg.Deregister(context.Background()))
	}
	for w := range watchers {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}

var errClosed = fmt.Errorf("memory: %w", registry.ErrClosed)

// usable says whether the registry can be asked for the service.
func (r *Registry) usable(service string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return errClosed
	case service == "":
		return fmt.Errorf("memory: %w: service is empty: give the name that servers register", registry.ErrInvalid)
	}
	return nil
}
