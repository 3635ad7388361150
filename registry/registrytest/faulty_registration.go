package registrytest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/claim"
	"github.com/rollcall-go/rollcall/registry/internal/events"
)

// faultyRegistration is a registration in the inner registry and what is still
// to be written there.
type faultyRegistration struct {
	faulty *Faulty
	claim  *claim.Claim
	inner  registry.Registration
	events *events.Feed
	relay  sync.WaitGroup // of inner's events

	turn   sync.Mutex // guards all below; held by one write at a time, which may wait under it
	wanted *registry.Instance
	over   bool
	result error
}

func newFaultyRegistration(f *Faulty, c *claim.Claim, inner registry.Registration) *faultyRegistration {
	g := &faultyRegistration{faulty: f, claim: c, inner: inner, events: events.New()}
	g.relay.Go(func() {
		for e := range inner.Events() {
			if e.Kind != registry.Deregistered { // Deregister says that itself
				g.events.Send(e)
			}
		}
	})
	return g
}

func (g *faultyRegistration) Instance() registry.Instance { return g.inner.Instance() }

func (g *faultyRegistration) Events() <-chan registry.Event { return g.events.C() }

func (g *faultyRegistration) Update(ctx context.Context, inst registry.Instance) error {
	g.turn.Lock()
	defer g.turn.Unlock()
	if g.over {
		return fmt.Errorf("registrytest: faulty: update: registration %w", registry.ErrClosed)
	}
	if err := g.inner.Instance().ValidateUpdate(inst); err != nil {
		return err
	}
	if err := g.claim.Move(inst.Addrs); err != nil {
		return fmt.Errorf("registrytest: faulty: update: %w", err)
	}
	inst = inst.Clone()
	g.wanted = &inst
	if err := g.faulty.answer(ctx); err != nil {
		return g.faulty.failed("update", err)
	}
	return g.write()
}

// write writes what is wanted; turn is held.
func (g *faultyRegistration) write() error {
	if g.over || g.wanted == nil {
		return nil
	}
	inst := *g.wanted
	g.wanted = nil
	return g.inner.Update(context.Background(), inst)
}

// Deregister fails while the fault lasts, but the instance is gone then too, as
// if its lease had expired.
func (g *faultyRegistration) Deregister(ctx context.Context) error {
	g.turn.Lock()
	defer g.turn.Unlock()
	if g.over {
		return g.result
	}
	g.over = true
	if err := g.faulty.answer(ctx); err != nil {
		g.result = g.faulty.failed("deregister", err)
	}
	g.result = errors.Join(g.result, g.inner.Deregister(context.WithoutCancel(ctx)))
	g.relay.Wait()
	g.claim.Release()
	g.faulty.forget(g)
	g.events.Send(registry.Event{Kind: registry.Deregistered, Err: g.result})
	g.events.Close()
	return g.result
}

// faultChanged does and reports what the heartbeat would.
func (g *faultyRegistration) faultChanged(before, now Fault) {
	switch {
	case !before.Down && now.Down:
		g.events.Send(registry.Event{Kind: registry.RenewFailed, Err: errDown})
	case before.Down && !now.Down:
		g.turn.Lock()
		if err := g.write(); err != nil {
			g.events.Send(registry.Event{Kind: registry.RenewFailed, Err: err})
		}
		g.turn.Unlock()
		g.events.Send(registry.Event{Kind: registry.Renewed})
	}
	switch {
	case !before.Empty && now.Empty:
		g.events.Send(registry.Event{Kind: registry.Lost, Err: errors.New("registrytest: faulty: the registry is empty")})
	case before.Empty && !now.Empty:
		g.events.Send(registry.Event{Kind: registry.Registered})
	}
}
