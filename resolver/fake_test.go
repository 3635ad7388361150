package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/credentials/insecure"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// source is a registry that says exactly what the test tells it to.
type source struct {
	mu       sync.Mutex
	watchErr error // what Watch fails with
	said     *answer
	changed  chan struct{}
	usage

	// How long Next takes to notice that its ctx has ended, and Refresh to return.
	slowNext, slowRefresh time.Duration
}

// usage is what became of the source's watchers.
type usage struct {
	watches, open int
	refreshes     []time.Time
	misused       bool // a watcher was closed twice, or while it was in use
}

// used returns the usage once everything has come to rest.
func (s *source) used() usage {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usage
}

type answer struct {
	snapshot registry.Snapshot
	err      error
}

func newSource() *source { return &source{changed: make(chan struct{})} }

// shows makes the watchers' Next return the set, however often it is told.
func (s *source) shows(instances ...registry.Instance) {
	s.say(&answer{snapshot: registry.Snapshot{Service: "greeter", Instances: instances, Confirmed: true}})
}

// fails makes the watchers' Next return an error.
func (s *source) fails(err error) { s.say(&answer{err: err}) }

func (s *source) say(a *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = a
	close(s.changed)
	s.changed = make(chan struct{})
}

// down makes Watch fail until it is called with nil.
func (s *source) down(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchErr = err
}

func (s *source) Watch(context.Context, string) (registry.Watcher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches++
	if s.watchErr != nil {
		return nil, s.watchErr
	}
	s.open++
	return &sourceWatcher{source: s}, nil
}

type sourceWatcher struct {
	source           *source
	seen             *answer
	refreshing, over bool
	closed           bool
}

func (w *sourceWatcher) Next(ctx context.Context) (registry.Snapshot, error) {
	for {
		w.source.mu.Lock()
		said, changed := w.source.said, w.source.changed
		w.source.mu.Unlock()
		if w.over {
			return registry.Snapshot{}, registry.ErrClosed
		}
		if said != nil && said != w.seen {
			w.seen, w.over = said, errors.Is(said.err, registry.ErrClosed)
			return said.snapshot, said.err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			time.Sleep(w.source.slowNext)
			return registry.Snapshot{}, ctx.Err()
		}
	}
}

func (w *sourceWatcher) Refresh() {
	w.source.mu.Lock()
	w.refreshing = true
	w.source.refreshes = append(w.source.refreshes, time.Now())
	w.source.mu.Unlock()
	time.Sleep(w.source.slowRefresh)
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	w.refreshing = false
}

func (w *sourceWatcher) Close() error {
	w.source.mu.Lock()
	defer w.source.mu.Unlock()
	if w.closed || w.refreshing {
		w.source.misused = true
	}
	w.closed = true
	w.source.open--
	return nil
}

// channel is gRPC's side of a resolver: it writes down what it is told.
type channel struct {
	gresolver.ClientConn
	mu     sync.Mutex
	told   []any // gresolver.State or error
	refuse error // what UpdateState returns
}

func (c *channel) UpdateState(s gresolver.State) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, s)
	return c.refuse
}

func (c *channel) ReportError(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, err)
}

// news returns what the channel was told since the last call, once everything
// has come to rest.
func (c *channel) news() []any {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	told := c.told
	c.told = nil
	return told
}

// build resolves the target over reg as gRPC would, until the test ends.
func build(t *testing.T, reg Registry, target string, opts ...Option) (*channel, gresolver.Resolver) {
	t.Helper()
	u, err := parse(target)
	if err != nil {
		t.Fatal(err)
	}
	cc := &channel{}
	r, err := NewBuilder(reg, opts...).Build(u, cc, gresolver.BuildOptions{DialCreds: insecure.NewCredentials()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return cc, r
}

// parse is how gRPC makes a Target of a string.
func parse(target string) (gresolver.Target, error) {
	u, err := url.Parse(target)
	if err != nil {
		return gresolver.Target{}, err
	}
	return gresolver.Target{URL: *u}, nil
}

var (
	errDown    = fmt.Errorf("fake: greeter: nodes n1 refused, n2 timed out: %w", registry.ErrUnavailable)
	errUnknown = fmt.Errorf("fake: greeter in env prod, asked n1: %w", registry.ErrUnknownService)
)
