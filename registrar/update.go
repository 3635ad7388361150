package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	// warmSteps is how often the weight changes in a slow start. Each step is an
	// update of the registry, and a change of the set for every client.
	warmSteps = 10
	// minSlowStart keeps the steps as far apart as registries need to pass on one
	// update before the next.
	minSlowStart = time.Second
)

// SetWeight changes the share of traffic that the server is to get, relative to
// the other instances of the service; connections stay. During a slow start it is
// the weight to which that leads. Before the server is registered the weight is
// only noted.
//
// An error of the registry says that the change is not known there yet; it is
// written as soon as that works. registry.ErrTaken: another process has registered
// under the ID, and is not touched. ErrStopped: the server is going down.
func (r *Registrar) SetWeight(ctx context.Context, weight uint32) error {
	if weight == 0 {
		return errors.New("registrar: set weight: 0 is no weight; a server gets no calls after Drain")
	}
	return r.change(ctx, "set weight", func() {
		r.weight = weight
		r.setWarmth(r.warmth)
	})
}

// Drain asks clients to send no new calls until Resume, unless there is nobody
// else to send them to: the instance stays in the registry, with the status
// Draining, and health says NOT_SERVING. The server serves on as before,
// connections stay, and unlike in a shutdown answers carry no closing mark, so a
// client learns of it when it next looks in the registry. A server that is
// drained before it is registered comes up drained. Errors as in SetWeight.
func (r *Registrar) Drain(ctx context.Context) error {
	r.health.hold(true)
	return r.change(ctx, "drain", func() { r.inst.Status = registry.Draining })
}

// Resume takes back a Drain. Errors as in SetWeight.
func (r *Registrar) Resume(ctx context.Context) error {
	r.health.hold(false)
	return r.change(ctx, "resume", func() { r.inst.Status = registry.Up })
}

// change makes edit to what is wanted, under mu, and writes it to the registry.
func (r *Registrar) change(ctx context.Context, what string, edit func()) error {
	if r.wanted.Err() != nil {
		return wrap(what, ErrStopped)
	}
	r.mu.Lock()
	edit()
	entry := r.entry
	r.mu.Unlock()
	if entry == nil {
		return nil
	}
	err := r.write(ctx, entry)
	switch {
	case err == nil:
		return nil
	case r.wanted.Err() != nil:
		return wrap(what, errors.Join(ErrStopped, err))
	default:
		return wrap(what, err)
	}
}

// write updates the entry to what is wanted. Updates take turns, lest an older
// one be written last.
func (r *Registrar) write(ctx context.Context, entry registry.Registration) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return entry.Update(ctx, r.Instance())
}

// setWarmth needs mu.
func (r *Registrar) setWarmth(share float64) {
	r.warmth = share
	r.inst.Weight = max(1, uint32(math.Round(float64(r.weight)*share)))
}

// growable says whether the weight leaves room for the share of it with which a
// slow start begins.
func (r *Registrar) growable() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opts.slowStart > 0 && float64(r.weight)*r.warmth < 0.5 {
		return fmt.Errorf("WithSlowStart(%v, %v): a weight of %d is too small to begin with that share of it; give the instances of the service weights like 100",
			r.opts.slowStart, r.opts.coldShare, r.weight)
	}
	return nil
}

// setEntry makes the server known to the registry from now on.
func (r *Registrar) setEntry(entry registry.Registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entry = entry
}

// keepUp writes what has changed while the entry was being made, and lets the
// weight grow until it is warm, or ctx has ended.
func (l *life) keepUp(ctx context.Context, entry registry.Registration) {
	if !entry.Instance().Equal(l.Instance()) {
		l.rewrite(ctx, entry)
	}
	for l.opts.slowStart > 0 && l.warmed < warmSteps {
		if backoff.Wait(ctx, l.opts.slowStart/warmSteps) != nil {
			return
		}
		l.warmed++
		if l.grow(l.warmed) {
			l.rewrite(ctx, entry)
		}
	}
}

// grow makes the weight that of the step and says whether it is another one.
func (r *Registrar) grow(step int) bool {
	share := 1.0
	if step < warmSteps {
		share = r.opts.coldShare + (1-r.opts.coldShare)*float64(step)/warmSteps
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.inst.Weight
	r.setWarmth(share)
	return r.inst.Weight != before
}

// rewrite is write on behalf of nobody; what fails the registration tries again.
func (l *life) rewrite(ctx context.Context, entry registry.Registration) {
	bounded, cancel := context.WithTimeout(ctx, l.opts.registerTimeout)
	defer cancel()
	// That the ID is taken has been said, as an event.
	if err := l.write(bounded, entry); err != nil && ctx.Err() == nil && !errors.Is(err, registry.ErrTaken) {
		l.opts.logger.Warn("registrar: the registry does not know the change yet", slog.Any("error", err))
	}
}
