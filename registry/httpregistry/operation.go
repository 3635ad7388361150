package httpregistry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// insist calls attempt until it works, with backoff and not before a node can be
// tried. It ends with ctx, when those that answer say that the request is bad, or
// when another process has the identity.
func (c *Client) insist(ctx context.Context, attempt func(context.Context) error) error {
	var before error // of the attempt before
	for n := 0; ; n++ {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		if f, ok := errors.AsType[*failure](err); ok && f.refused {
			return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
		}
		if errors.Is(err, registry.ErrTaken) {
			return err
		}
		if ended(ctx) == nil {
			backoff.Wait(ctx, retry.Delay(n))
			c.nodes.wait(ctx)
		}
		if cause := ended(ctx); cause != nil {
			if before != nil && err.Error() == cause.Error() { // it says no more than that
				err = before
			}
			if errors.Is(err, cause) {
				return err
			}
			return fmt.Errorf("%w: %w", cause, err)
		}
		before = err
	}
}

// operate does op in turn with all other operations on the instance, spaced.
func (r *registration) operate(ctx context.Context, op func(context.Context) error) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if backoff.Wait(ctx, time.Until(r.last.Add(spacing))) != nil {
		return context.Cause(ctx)
	}
	defer func() { r.last = time.Now() }()
	return op(ctx)
}

// write registers what is wanted, at whichever node takes it. What another process
// has is left to that: the check that finds it gone registers.
func (r *registration) write(ctx context.Context) error {
	return r.operate(ctx, func(ctx context.Context) error {
		if other := r.holder(); other != "" {
			return fmt.Errorf("%w: %s", registry.ErrTaken, other)
		}
		return r.client.nodes.each(ctx, map[*node]bool{}, nil, r.post)
	})
}

// post registers what is wanted at n; the caller has the turn. It is not broken
// off with ctx: a register that the node still gets could follow upon the cancel.
func (r *registration) post(ctx context.Context, n *node) error {
	r.mu.Lock()
	inst := r.wanted
	r.mu.Unlock()
	ctx, cancel := r.sheltered(ctx)
	defer cancel()
	sent := time.Now()
	got, err := r.client.post(ctx, n, wire.PathRegister, encode(r.client.env, inst))
	if err != nil {
		if !undone(err) && !slices.Contains(r.lost, n) {
			r.lost = append(r.lost, n)
		}
		return err
	}
	if got.Code != wire.CodeOK {
		return &refusal{got.Code, fmt.Sprintf("refused with code %d", got.Code)}
	}
	r.lost, r.acked = nil, ack{n, sent}
	r.mu.Lock()
	news := !r.stored.Equal(inst)
	r.stored, r.other = inst, ""
	r.mu.Unlock()
	if news {
		r.client.written(inst.Service)
	}
	return nil
}

// sheltered keeps the deadline of ctx and drops its cancellation.
func (r *registration) sheltered(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(r.client.timeout)
	}
	return context.WithDeadline(context.WithoutCancel(ctx), deadline)
}

// withdraw cancels a first registration that failed wherever a register may have
// arrived, within the timeout of one request.
func (r *registration) withdraw() {
	if len(r.lost) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.client.timeout)
	defer cancel()
	r.operate(ctx, func(ctx context.Context) error {
		for _, n := range r.lost {
			r.client.nodes.on(ctx, n, func(ctx context.Context, n *node) error {
				_, err := r.client.post(ctx, n, wire.PathCancel, r.id)
				return err
			})
		}
		return nil
	})
}

// goneWithin bounds how long nodes are asked to forget an instance after the first
// has done so: a program that waits to exit has better things to do.
const goneWithin = time.Second

// cancel takes the instance out at one node, which tells the others, and then at
// each of those that answers: the word may not have reached it, and a node that
// does not know the instance, which is as good, passes nothing on.
func (r *registration) cancel(ctx context.Context) error {
	return r.operate(ctx, func(ctx context.Context) error {
		tried := map[*node]bool{}
		one := func(ctx context.Context) error {
			return r.client.nodes.each(ctx, tried, r.acked.node, func(ctx context.Context, n *node) error {
				_, err := r.client.post(ctx, n, wire.PathCancel, r.id)
				return err
			})
		}
		if err := one(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, goneWithin)
		defer cancel()
		for one(ctx) == nil {
		}
		return nil
	})
}
