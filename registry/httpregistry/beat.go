package httpregistry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

const (
	// settleAfter is when a change has reached all nodes that it will reach: then
	// it is looked for, or written once more.
	settleAfter = time.Second
	// checkEvery is how often, give or take 20 %, the nodes are checked: those that
	// have missed something learn of it in no other way.
	checkEvery = 5 * time.Minute
)

// task is what the goroutine that keeps a registration does at its time.
type task int

const (
	taskBeat  task = iota // renew
	taskCheck             // look whether the entry is there and ours, at all nodes
	taskWrite             // register what has changed
	tasks
)

// plan says when each task is due next; zero: not at all.
type plan [tasks]time.Time

func newPlan(heartbeat time.Duration) plan {
	now := time.Now()
	return plan{
		taskBeat:  now.Add(heartbeat - rand.N(heartbeat/2+1)), // who starts together need not beat together
		taskCheck: now.Add(settleAfter + rand.N(settleAfter)),
	}
}

// beatDelay is up to 10 % less than the heartbeat, so that all are back one
// heartbeat after the registry has forgotten them.
func beatDelay(heartbeat time.Duration) time.Duration {
	return heartbeat - rand.N(heartbeat/10+1)
}

// next is the task that is due first.
func (p plan) next() (task, time.Time) {
	first := taskBeat // if several are due at once
	for t, at := range p {
		if !at.IsZero() && at.Before(p[first]) {
			first = task(t)
		}
	}
	return first, p[first]
}

// schedule plans t for d from now.
func (r *registration) schedule(t task, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plan[t] = time.Now().Add(d)
}

// postpone plans a beat for d from now, and everything else for later, also what
// has failed; a check comes round by itself.
func (r *registration) postpone(failed task, d time.Duration) {
	at := time.Now().Add(d)
	r.mu.Lock()
	defer r.mu.Unlock()
	if failed == taskWrite {
		r.plan[failed] = at
	}
	for t := range r.plan {
		if !r.plan[t].IsZero() && r.plan[t].Before(at) {
			r.plan[t] = at
		}
	}
	r.plan[taskBeat] = at
}

// takeOff takes t, which is due, off the plan, unless that has changed.
func (r *registration) takeOff(t task, due time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.plan[t].Equal(due) {
		return false
	}
	r.plan[t] = time.Time{}
	return true
}

// await waits for the next task and takes it off the plan; false when ctx has ended.
func (r *registration) await(ctx context.Context) (task, bool) {
	for ctx.Err() == nil {
		r.mu.Lock()
		next, at := r.plan.next()
		r.mu.Unlock()
		left := time.Until(at)
		if left <= 0 {
			if r.takeOff(next, at) {
				return next, true
			}
			continue
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-r.replan:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return 0, false
}

// beater is the state of the goroutine that keeps a registration.
type beater struct {
	*registration
	fails   int    // tasks in a row that failed
	failure string // the last one that was reported
	losses  int    // beats in a row to which the entry was not there
	size    int    // of the service, when it was last looked at
}

// keep renews the registration until ctx ends, and never gives up before.
func (r *registration) keep(ctx context.Context) {
	b := &beater{registration: r}
	// Soon at first; later, when many wait for the registry, spread over half a
	// heartbeat, so that all are back within one.
	again := backoff.Policy{Base: time.Second, Max: max(r.client.heartbeat/2, time.Millisecond)}
	again.Base = min(again.Base, again.Max)
	for {
		next, ok := r.await(ctx)
		if !ok {
			return
		}
		err := b.do(ctx, next)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.postpone(next, again.Delay(b.fails))
			b.fails++
			b.failed(err)
		default:
			b.fails = 0
			b.worked()
		}
	}
}

// do does a task. While another process has the entry, a beat would keep that
// alive and a write replace it: then all that is done is to look whether it still has.
func (b *beater) do(ctx context.Context, t task) error {
	switch {
	case b.holder() != "":
		b.schedule(t, beatDelay(b.client.heartbeat))
		return b.check(ctx)
	case t == taskCheck && !myTurn(b.size):
		b.schedule(t, backoff.Jitter(checkEvery, 0.2))
		return b.rewrite(ctx)
	case t == taskCheck:
		b.schedule(t, backoff.Jitter(checkEvery, 0.2))
		return b.check(ctx)
	case t == taskWrite:
		return b.rewrite(ctx)
	default:
		return b.beat(ctx)
	}
}

// failed reports what is new about a task that failed.
func (b *beater) failed(err error) {
	if b.failure != err.Error() {
		b.failure = err.Error()
		b.send(registry.RenewFailed, nil, err)
	}
}

func (b *beater) worked() {
	if b.failure != "" {
		b.failure = ""
		b.send(registry.Renewed, nil, nil)
	}
}

func (b *beater) send(kind registry.EventKind, n *node, err error) {
	event := registry.Event{Kind: kind, Err: err}
	if n != nil {
		event.Node = n.host
	}
	log := b.client.log.With("service", b.id.AppID, "id", b.id.Hostname, "node", event.Node)
	if err != nil {
		log.Warn("registration "+kind.String(), "error", err)
	} else {
		log.Info("registration " + kind.String())
	}
	b.events.Send(event)
}

// beat renews. Where the entry is not there it is registered again, and looked
// for soon after, with growing patience if that goes on.
func (b *beater) beat(ctx context.Context) error {
	var at *node
	var code int
	err := b.operate(ctx, func(ctx context.Context) error {
		return b.client.nodes.each(ctx, map[*node]bool{}, nil, func(ctx context.Context, n *node) error {
			got, err := b.client.post(ctx, n, wire.PathRenew, b.id)
			at, code = n, got.Code
			return err
		})
	})
	switch {
	case err != nil:
		return err
	case code == wire.CodeNotFound:
		if err := b.restore(ctx, at, "it does not know the instance"); err != nil {
			return err
		}
		b.schedule(taskBeat, backoff.Policy{Base: 2 * settleAfter, Max: b.client.heartbeat}.Delay(b.losses))
		b.losses++
		b.schedule(taskCheck, settleAfter+rand.N(b.client.heartbeat))
	default:
		b.losses = 0
		b.schedule(taskBeat, beatDelay(b.client.heartbeat))
	}
	return nil
}

// restore registers the instance again at the node that has lost it.
func (b *beater) restore(ctx context.Context, n *node, why string) error {
	if b.losses == 0 {
		b.send(registry.Lost, n, fmt.Errorf("%s: %s", n.host, why))
	}
	err := b.operate(ctx, func(ctx context.Context) error { return b.client.nodes.on(ctx, n, b.post) })
	if err != nil {
		return err
	}
	if b.losses == 0 {
		b.send(registry.Registered, n, nil)
	}
	return nil
}

// rewrite registers what is wanted: for the first time, if an Update could not, and
// then once more, lest nodes got it in the wrong order.
func (b *beater) rewrite(ctx context.Context) error {
	b.mu.Lock()
	news := !b.stored.Equal(b.wanted)
	b.mu.Unlock()
	if err := b.write(ctx); err != nil {
		return err
	}
	if news {
		b.send(registry.Registered, nil, nil)
		b.schedule(taskWrite, settleAfter)
	}
	return nil
}
