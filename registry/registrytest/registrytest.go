// Package registrytest is the contract of registry.Registry as a test suite, to
// be run by everything that implements it, and a Faulty registry to try
// everything that uses one.
package registrytest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// Backend is one registry, which any number of clients share.
type Backend struct {
	// Client returns a new client of the registry: what another process would
	// use. The suite closes it.
	Client func() (registry.Registry, error)
	// Stop makes the registry unreachable for all clients, and Start brings it
	// back, with what it knew or without. They are called in turn, Stop first.
	// When both are nil, what the contract promises under failure is not tested.
	Stop, Start func()
}

// Timing says how long the suite waits when it runs in real time.
type Timing struct {
	// Within is how soon the backend must have done what it promises to do at
	// some time: see a change, register again, believe that a service is gone.
	Within time.Duration
	// Soon is how soon a watcher must see a change after Refresh.
	Soon time.Duration
	// Quiet is for how long the suite watches that something does not happen. It
	// should cover a poll of the registry and a heartbeat.
	Quiet time.Duration
}

// bubble is the timing on a clock that costs nothing: longer than any lease, and
// several heartbeats, and not so long that it could be an ordinary poll.
var bubble = Timing{Within: 2 * time.Hour, Soon: 2 * time.Second, Quiet: 10 * time.Minute}

// Run tests a backend that opens no sockets (for instance one that is reached
// over a pipe). Every test runs in a synctest bubble of its own and calls open
// there, so hours of leases and polls take no time, and a goroutine that is
// left after Close fails the test.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.try(t, open(t), bubble) })
		})
	}
}

// RunInRealTime tests a backend of any kind, a real registry for instance. The
// suite uses service names that nobody else does.
func RunInRealTime(t *testing.T, timing Timing, open func(t *testing.T) Backend) {
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) { c.try(t, open(t), timing) })
	}
}

// check tests one sentence of the contract, or a few that belong together.
type check struct {
	name  string
	run   func(*world)
	fault bool // it needs Stop and Start
}

func checks() []check {
	return slices.Concat(registerChecks, fetchChecks, watchChecks, registrationChecks, closeChecks, outageChecks)
}

func (c check) try(t tb, backend Backend, timing Timing) {
	if c.fault && backend.Stop == nil {
		return
	}
	w := &world{tb: t, backend: backend, timing: timing, service: fmt.Sprintf("registrytest-%08x", rand.Uint32())}
	defer w.close()
	c.run(w)
}

// tb is what a check needs of a *testing.T.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// world is what one check works with.
type world struct {
	tb
	backend Backend
	timing  Timing
	service string // a name that is this check's own
	clients []registry.Registry

	mu      sync.Mutex // guards cancels
	cancels []context.CancelFunc
}

func (w *world) close() {
	w.Helper()
	w.mu.Lock()
	for _, cancel := range w.cancels {
		cancel()
	}
	w.mu.Unlock()
	for _, client := range w.clients {
		w.returns("Close of a client", func() { client.Close() })
	}
}

// returns calls f and fails the check when that takes too long.
func (w *world) returns(what string, f func()) {
	w.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(w.timing.Within):
		w.Fatalf("%s has not returned within %v", what, w.timing.Within)
	}
}

// client returns a new client.
func (w *world) client() registry.Registry {
	w.Helper()
	client, err := w.backend.Client()
	if err != nil {
		w.Fatalf("new client: %v", err)
	}
	w.clients = append(w.clients, client)
	return client
}

// within returns a context for what must happen.
func (w *world) within() context.Context { return w.timeout(w.timing.Within) }

// quiet returns a context for what must not happen while it lasts.
func (w *world) quiet() context.Context { return w.timeout(w.timing.Quiet) }

func (w *world) timeout(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancels = append(w.cancels, cancel)
	return ctx
}

// instance returns the n-th instance of the check's service; n is below 100.
func (w *world) instance(n int) registry.Instance {
	return registry.Instance{
		Service: w.service,
		ID:      fmt.Sprintf("instance-%02d", n),
		Life:    fmt.Sprintf("life-%02d", n),
		Addrs:   []string{fmt.Sprintf("10.0.0.%d:9000", n+1)},
	}
}

// register registers inst, which must work.
func (w *world) register(r registry.Registry, inst registry.Instance) registry.Registration {
	w.Helper()
	reg, err := r.Register(w.within(), inst)
	if err != nil {
		w.Fatalf("Register(%s): %v", inst.ID, err)
	}
	return reg
}

// update and deregister must work.
func (w *world) update(reg registry.Registration, inst registry.Instance) {
	w.Helper()
	if err := reg.Update(w.within(), inst); err != nil {
		w.Fatalf("Update(%s): %v", inst.ID, err)
	}
}

func (w *world) deregister(reg registry.Registration) {
	w.Helper()
	if err := reg.Deregister(w.within()); err != nil {
		w.Fatalf("Deregister(%s): %v", reg.Instance().ID, err)
	}
}

// watch watches the check's service with r.
func (w *world) watch(r registry.Registry) registry.Watcher {
	w.Helper()
	watcher, err := r.Watch(w.within(), w.service)
	if err != nil {
		w.Fatalf("Watch: %v", err)
	}
	return watcher
}

// await calls Next until it returns what is wanted.
func (w *world) await(watcher registry.Watcher, wanted answer) {
	w.Helper()
	ctx, last := w.within(), "nothing"
	for {
		watcher.Refresh()
		snap, err := watcher.Next(ctx)
		if ctx.Err() != nil || errors.Is(err, registry.ErrClosed) && !wanted.ok(snap, err) {
			w.Fatalf("Next: want %s; the last was %s, and then %v", wanted, last, err)
		}
		if last = describe(snap, err); wanted.ok(snap, err) {
			return
		}
	}
}

// silent fails the check when Next returns anything before its context ends.
func (w *world) silent(watcher registry.Watcher, why string) {
	w.Helper()
	ctx := w.quiet()
	if snap, err := watcher.Next(ctx); err == nil || ctx.Err() == nil {
		w.Errorf("Next returned %s although %s", describe(snap, err), why)
	} else if err != ctx.Err() { // "returned as it is"
		w.Errorf("Next returned the error %v, want that of its context as it is: %v", err, ctx.Err())
	}
}

// stranger waits until a process that has never looked before sees what is
// wanted.
func (w *world) stranger(wanted answer) {
	w.Helper()
	watcher := w.watch(w.client())
	defer watcher.Close()
	w.await(watcher, wanted)
}

// stays fails the check when a process that looks in a while does not see what
// is wanted.
func (w *world) stays(wanted answer) {
	w.Helper()
	<-w.quiet().Done()
	snap, err := w.client().Fetch(w.within(), w.service)
	if !wanted.ok(snap, err) {
		w.Errorf("after %v: %s, want %s", w.timing.Quiet, describe(snap, err), wanted)
	}
}

// answer is what Next or Fetch is wanted to return.
type answer struct {
	text string
	ok   func(registry.Snapshot, error) bool
}

func (a answer) String() string { return a.text }

// set is the confirmed set of exactly these instances.
func set(instances ...registry.Instance) answer {
	return answer{describe(registry.Snapshot{Instances: instances, Confirmed: true}, nil), func(snap registry.Snapshot, err error) bool {
		return err == nil && snap.Confirmed && slices.EqualFunc(snap.Instances, instances, registry.Instance.Equal)
	}}
}

// failure is an error that is target, without a Snapshot.
func failure(target error) answer {
	return answer{fmt.Sprintf("the error %q", target), func(snap registry.Snapshot, err error) bool {
		return errors.Is(err, target) && len(snap.Instances) == 0
	}}
}

func describe(snap registry.Snapshot, err error) string {
	if err != nil {
		return fmt.Sprintf("the error %q", err)
	}
	var text strings.Builder
	text.WriteString("the set")
	for _, i := range snap.Instances {
		i = i.Clone()
		fmt.Fprintf(&text, " {%s %s at %v weight %d zone %q version %q %v %v}", i.ID, i.Life, i.Addrs, i.Weight, i.Zone, i.Version, i.Status, i.Metadata)
	}
	if !snap.Confirmed {
		fmt.Fprintf(&text, ", unconfirmed (%s)", snap.Reason)
	}
	return text.String()
}
