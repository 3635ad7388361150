package registrytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/claim"
)

// Fault is how a Faulty registry misbehaves; faults can be combined. The zero
// Fault is none.
type Fault struct {
	// Down: no node answers. Reads are ErrUnavailable or the last good set
	// unconfirmed, writes wait and fail when their context ends, and
	// registrations report RenewFailed, then Renewed when it is over.
	Down bool
	// Delay is how late every answer comes. What a Watcher returns is that old.
	Delay time.Duration
	// Frozen: reads answer as they last did, whatever has changed since.
	Frozen bool
	// Empty: the registry has lost everything, as a node that has just started:
	// reads are ErrUnknownService, and registrations report Lost, then
	// Registered when it is over.
	Empty bool
	// Partial, when above 0, is how many instances of a set are left in it.
	Partial int
	// Unconfirmed, when not empty, is why sets are not Confirmed.
	Unconfirmed string
}

// apply returns what the fault makes of a true answer.
func (f Fault) apply(service string, snap registry.Snapshot, err error) (registry.Snapshot, error) {
	switch {
	case f.Down:
		return registry.Snapshot{}, errDown
	case err == nil && f.Empty:
		return registry.Snapshot{}, fmt.Errorf("registrytest: faulty: %q: %w", service, registry.ErrUnknownService)
	case err != nil:
		return snap, err
	}
	if f.Partial > 0 && f.Partial < len(snap.Instances) {
		snap.Instances = slices.Clip(snap.Instances[:f.Partial])
	}
	if f.Unconfirmed != "" {
		snap.Confirmed, snap.Reason = false, f.Unconfirmed
	}
	return snap, nil
}

var errDown = fmt.Errorf("registrytest: faulty: %w", registry.ErrUnavailable)

// Faulty is a Registry that passes everything on to another one and misbehaves
// when told to, always within the contract. It is there to try what depends on
// a Registry: a resolver, a registrar.
type Faulty struct {
	inner  registry.Registry
	claims claim.Set       // what it cannot ask inner about while Down
	life   context.Context // ends with Close
	end    context.CancelFunc

	mu            sync.Mutex // guards all below; inner is not called under it
	closed        bool
	fault         Fault
	current       context.Context // ends when fault changes
	supersede     context.CancelFunc
	good          map[string]registry.Snapshot // the last good answers, by service
	registrations map[*faultyRegistration]struct{}
}

var _ registry.Registry = (*Faulty)(nil)

// NewFaulty returns a Faulty that is in front of inner, owns it from now on and
// does not misbehave yet.
func NewFaulty(inner registry.Registry) *Faulty {
	f := &Faulty{inner: inner, good: map[string]registry.Snapshot{}, registrations: map[*faultyRegistration]struct{}{}}
	f.life, f.end = context.WithCancel(context.Background())
	f.current, f.supersede = context.WithCancel(f.life)
	return f
}

// Set makes it misbehave in this way, instead of the way before. What was to be
// written while it was Down has been written when Set returns.
func (f *Faulty) Set(fault Fault) {
	f.mu.Lock()
	before := f.fault
	f.fault = fault
	f.supersede()
	f.current, f.supersede = context.WithCancel(f.life)
	registrations := maps.Clone(f.registrations)
	f.mu.Unlock()
	for g := range registrations {
		g.faultChanged(before, fault)
	}
}

// now returns the fault and a context that ends when it changes or f is closed.
func (f *Faulty) now() (Fault, context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fault, f.current
}

// answer lets pass what is to be answered: after the delay, and not while Down.
// Its errors are the context's and ErrClosed.
func (f *Faulty) answer(ctx context.Context) error {
	for {
		fault, current := f.now()
		wait, cancel := either(ctx, current)
		err := backoff.Wait(wait, fault.Delay)
		if fault.Down {
			<-wait.Done()
			err = wait.Err()
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case f.life.Err() != nil && fault.Down:
			return registry.ErrClosed
		case f.life.Err() != nil || err == nil:
			return nil
		}
	}
}

// either returns a context that ends with a or b.
func either(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(a)
	stop := context.AfterFunc(b, cancel)
	return ctx, func() { stop(); cancel() }
}

// Register implements registry.Registry.
func (f *Faulty) Register(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
	if err := inst.Validate(); err != nil {
		return nil, err
	}
	claimed, err := f.claims.Add(inst)
	if err != nil {
		return nil, fmt.Errorf("registrytest: faulty: register: %w", err)
	}
	g, err := f.register(ctx, claimed, inst)
	if err != nil {
		claimed.Release()
		return nil, err
	}
	return g, nil
}

func (f *Faulty) register(ctx context.Context, claimed *claim.Claim, inst registry.Instance) (*faultyRegistration, error) {
	if err := f.answer(ctx); err != nil {
		return nil, f.failed("register", err)
	}
	inner, err := f.inner.Register(ctx, inst)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed { // inner is closed soon, and takes the instance out
		return nil, fmt.Errorf("registrytest: faulty: register: %w", registry.ErrClosed)
	}
	g := newFaultyRegistration(f, claimed, inner)
	f.registrations[g] = struct{}{}
	return g, nil
}

// failed says why a write was not answered.
func (f *Faulty) failed(what string, err error) error {
	if fault, _ := f.now(); fault.Down && !errors.Is(err, registry.ErrClosed) {
		err = errors.Join(err, errDown)
	}
	return fmt.Errorf("registrytest: faulty: %s: %w", what, err)
}

// Fetch implements registry.Registry.
func (f *Faulty) Fetch(ctx context.Context, service string) (registry.Snapshot, error) {
	fault, _ := f.now()
	if err := backoff.Wait(ctx, fault.Delay); err != nil {
		return registry.Snapshot{}, err
	}
	snap, err := f.inner.Fetch(ctx, service)
	if errors.Is(err, registry.ErrClosed) || errors.Is(err, registry.ErrInvalid) {
		return snap, err
	}
	last, known := f.lastGood(service)
	switch {
	case fault.Down && known:
		last.Confirmed, last.Reason = false, errDown.Error()
		return last, nil
	case fault.Frozen && known:
		snap, err = last, nil
	}
	f.keep(fault, snap, err)
	return fault.apply(service, snap, err)
}

func (f *Faulty) lastGood(service string) (registry.Snapshot, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	snap, ok := f.good[service]
	return snap, ok
}

// keep notes a true answer, unless the fault keeps it from being given.
func (f *Faulty) keep(fault Fault, snap registry.Snapshot, err error) {
	if err != nil || fault.Down {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.good[snap.Service] = snap
}

// Watch implements registry.Registry.
func (f *Faulty) Watch(ctx context.Context, service string) (registry.Watcher, error) {
	inner, err := f.inner.Watch(ctx, service)
	if err != nil {
		return nil, err
	}
	w := &faultyWatcher{faulty: f, service: service, inner: inner}
	w.life, w.end = context.WithCancel(f.life)
	return w, nil
}

// forget drops a registration that is over.
func (f *Faulty) forget(g *faultyRegistration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.registrations, g)
}

// Close implements registry.Registry. It does not wait for a fault to end.
func (f *Faulty) Close() error {
	f.mu.Lock()
	f.closed = true
	f.end() // nothing waits for an answer from now on
	registrations := maps.Clone(f.registrations)
	f.mu.Unlock()
	for g := range registrations {
		g.Deregister(context.Background()) // its error says that nothing was waited for
	}
	return f.inner.Close()
}
