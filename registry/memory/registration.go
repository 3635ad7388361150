package memory

import (
	"context"
	"fmt"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/claim"
	"github.com/rollcall-go/rollcall/registry/internal/events"
)

// registration is an instance in the store. Nothing beats for it: what is in
// memory needs no lease.
type registration struct {
	registry *Registry
	claim    *claim.Claim
	events   *events.Feed

	mu   sync.Mutex // guards all below; taken before Registry.mu and store.mu
	inst registry.Instance
	over bool
}

func newRegistration(r *Registry, c *claim.Claim, inst registry.Instance) *registration {
	return &registration{registry: r, claim: c, events: events.New(), inst: inst.Clone()}
}

func (g *registration) Instance() registry.Instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inst.Clone()
}

func (g *registration) Update(ctx context.Context, inst registry.Instance) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return fmt.Errorf("memory: update: registration %w", registry.ErrClosed)
	}
	if err := g.inst.ValidateUpdate(inst); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: update %s of %q: %w", inst.ID, inst.Service, err)
	}
	if err := g.claim.Move(inst.Addrs); err != nil {
		return fmt.Errorf("memory: update: %w", err)
	}
	g.inst = inst.Clone()
	if err := g.registry.store.update(g, g.inst); err != nil {
		return fmt.Errorf("memory: update %s of %q: %w", inst.ID, inst.Service, err)
	}
	g.events.Send(registry.Event{Kind: registry.Registered})
	return nil
}

func (g *registration) Deregister(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return nil
	}
	g.over = true
	g.registry.store.remove(g, g.inst)
	g.claim.Release()
	g.registry.done(g)
	g.events.Send(registry.Event{Kind: registry.Deregistered})
	g.events.Close()
	return nil
}

func (g *registration) Events() <-chan registry.Event { return g.events.C() }
