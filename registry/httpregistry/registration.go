package httpregistry

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/claim"
	"github.com/rollcall-go/rollcall/registry/internal/events"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// spacing is the least time between two operations on one instance: nodes pass
// them on without an order, and what is closer together may arrive reversed.
const spacing = 100 * time.Millisecond

// retry is how Register, Update and Deregister repeat what failed.
var retry = backoff.Policy{Base: 200 * time.Millisecond, Max: 2 * time.Second}

// registration keeps one instance in the registry.
type registration struct {
	client *Client
	claim  *claim.Claim
	id     wire.Identity
	events *events.Feed

	life   context.Context // ends when Deregister begins
	end    context.CancelFunc
	beaten chan struct{} // closed when the goroutine that keeps it has ended

	leaving once
	result  error // of leaving

	turn  chan struct{} // holds a token during an operation on the instance; guards the next three
	last  time.Time     // when the last operation ended
	acked ack           // the last register that was acknowledged
	lost  []*node       // where a register was sent that nobody acknowledged

	mu     sync.Mutex // guards all below; nothing is called under it but claim
	wanted registry.Instance
	stored registry.Instance // wanted, as far as the registry has taken it
	other  string            // the process that the registry shows instead; "" for none
	plan   plan
	replan chan struct{} // has room for one: plan was changed from outside
}

// ack is a node's word that it has taken an instance.
type ack struct {
	node *node
	sent time.Time // when it was asked
}

// Register implements registry.Registry.
func (c *Client) Register(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
	if err := inst.Validate(); err != nil {
		return nil, err
	}
	r, err := c.register(ctx, inst.Clone())
	if err != nil {
		return nil, fmt.Errorf("httpregistry: register %q as %q (env %q): %w", inst.ID, inst.Service, c.env, err)
	}
	return r, nil
}

func (c *Client) register(ctx context.Context, inst registry.Instance) (*registration, error) {
	if err := encodable(c.env, inst); err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	claimed, err := c.claims.Add(inst)
	if err != nil {
		return nil, err
	}
	r := newRegistration(c, claimed, inst)
	r.last = c.lastUsed(r.id)
	if err := c.insist(ctx, r.write); err != nil {
		r.withdraw()
		claimed.Release()
		return nil, err
	}
	r.plan = newPlan(c.heartbeat)
	c.beating.Go(func() {
		defer close(r.beaten)
		r.keep(r.life)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.registrations[r] = struct{}{}
	return r, nil
}

// gone forgets a registration that is over, but not at once when that was: its
// identity may be registered again, and no sooner than any other operation.
func (c *Client) gone(r *registration) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.registrations, r)
	maps.DeleteFunc(c.used, func(_ wire.Identity, at time.Time) bool { return now.Sub(at) > spacing })
	c.used[r.id] = now
}

// lastUsed is when there was an operation under this identity, if just now.
func (c *Client) lastUsed(id wire.Identity) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used[id]
}

func newRegistration(c *Client, claimed *claim.Claim, inst registry.Instance) *registration {
	r := &registration{
		client: c, claim: claimed, events: events.New(),
		id:   wire.Identity{Env: c.env, AppID: inst.Service, Hostname: inst.ID},
		turn: make(chan struct{}, 1), leaving: newOnce(),
		wanted: inst,
		beaten: make(chan struct{}), replan: make(chan struct{}, 1),
	}
	r.life, r.end = context.WithCancel(context.Background())
	return r
}

// Instance implements registry.Registration.
func (r *registration) Instance() registry.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored.Clone()
}

// Events implements registry.Registration.
func (r *registration) Events() <-chan registry.Event { return r.events.C() }

// Update implements registry.Registration.
func (r *registration) Update(ctx context.Context, inst registry.Instance) error {
	if err := r.update(ctx, inst.Clone()); err != nil {
		return fmt.Errorf("httpregistry: update %q of %q (env %q): %w", r.id.Hostname, r.id.AppID, r.id.Env, err)
	}
	return nil
}

func (r *registration) update(ctx context.Context, inst registry.Instance) error {
	ctx, end, err := r.client.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.life, func() { cancel(registry.ErrClosed) })()
	if err := r.want(inst); err != nil {
		return err
	}
	err = r.client.insist(ctx, r.write)
	if err == nil {
		r.events.Send(registry.Event{Kind: registry.Registered})
	}
	// Written, it is written once more, lest nodes got it in the wrong order;
	// not written, the beat takes over.
	r.schedule(taskWrite, settleAfter)
	r.schedule(taskCheck, 2*settleAfter+rand.N(settleAfter))
	select {
	case r.replan <- struct{}{}:
	default:
	}
	return err
}

// want makes inst the wanted content.
func (r *registration) want(inst registry.Instance) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.life.Err() != nil {
		return registry.ErrClosed
	}
	if err := r.wanted.ValidateUpdate(inst); err != nil {
		return err
	}
	if err := encodable(r.id.Env, inst); err != nil {
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	if err := r.claim.Move(inst.Addrs); err != nil {
		return err
	}
	r.wanted = inst
	return nil
}

// Deregister implements registry.Registration. It tries for at most one lease:
// after that the registry drops the instance anyway. An entry that another process
// has replaced is left to that.
func (r *registration) Deregister(ctx context.Context) error {
	r.leaving.do(func() { r.result = r.leave(ctx) })
	return r.result
}

func (r *registration) leave(ctx context.Context) error {
	r.end()
	ctx, cancel := context.WithTimeout(ctx, r.client.lease)
	defer cancel()
	defer context.AfterFunc(r.client.life, cancel)()
	select {
	case <-r.beaten:
	case <-ctx.Done(): // then nothing is cancelled either
	}
	var err error
	if r.holder() == "" {
		err = r.client.insist(ctx, r.cancel)
	}
	if err != nil {
		err = fmt.Errorf("httpregistry: deregister %q of %q (env %q): %w", r.id.Hostname, r.id.AppID, r.id.Env, err)
	}
	r.client.gone(r)
	r.claim.Release()
	r.client.written(r.id.AppID)
	r.events.Send(registry.Event{Kind: registry.Deregistered, Err: err})
	r.events.Close()
	return err
}
