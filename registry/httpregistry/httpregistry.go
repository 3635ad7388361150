// Package httpregistry is a registry.Registry over the service_discovery HTTP
// API: the embedded server of this project (package registryserver) or any other
// server of that API, one node or several.
//
// # What it does when the registry fails
//
// The Client sticks to one node and goes on to the next when that one does not
// answer in time, answers something else than a registry would, or is gone. Each
// failed node is dialled at most once per backoff (half a second to five, or to
// the poll interval if that is shorter), by one request at a time, and only when
// no other one answers. The registry's own list of nodes is followed, but the
// configured ones are never forgotten and always preferred.
//
// While no node answers, the last good set of a service stays. What a node says
// against it is doubted: that the service is unknown, that more than half of the
// set is gone, or that anything of it is, right after an outage or a restart or
// from another node than before. What is missing is believed to
// be gone after answers have lacked it for one lease, or when two nodes that have
// both been up for a lease agree (one, against a set that nobody has looked at for as long).
// Until then the Snapshot is not Confirmed and its Reason says why; what the answer
// does contain is used at once.
//
// A registration is renewed for as long as it lives, whatever happens: a failed
// beat is repeated within seconds on another node, an instance that the registry
// has lost is registered again at once, and every few minutes anyway, because
// nodes repair each other in no other way.
//
// # How an instance is written
//
// The wire has no field for weight, zone, life, TLS and metadata, so they travel
// in the addresses: grpc://10.0.0.7:9000?life=f00d&weight=10&zone=a, with the
// scheme grpcs where the server speaks TLS. Addresses with other schemes belong
// to other protocols and are skipped; a bare host:port counts as grpc. Several
// addresses are alternatives for one server, and the first one's query counts.
package httpregistry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/claim"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// closeTimeout bounds what Close does about living registrations: the registry
// drops by itself what it is not told to.
const closeTimeout = 5 * time.Second

// maxUnknown is of how many services it is remembered that nobody serves them:
// enough for a program's mistakes, and nothing to a stranger's.
const maxUnknown = 100

// Client is a registry.Registry. Make it with New.
type Client struct {
	config
	http      *http.Client
	closeIdle func()
	nodes     *nodes
	claims    claim.Set

	open      context.Context // ends when Close begins, and the calls with it
	shut      context.CancelFunc
	calls     sync.WaitGroup  // under way; Add only under mu while not closed
	life      context.Context // ends when everything is deregistered
	endLife   context.CancelFunc
	following sync.WaitGroup // what start starts
	beating   sync.WaitGroup // what keeps the registrations
	start     sync.Once      // of the goroutine that follows the list of nodes
	closing   once

	mu            sync.Mutex // guards all below and service.users; nothing is called under it but service.known
	closed        bool
	services      map[string]*service
	unknown       []*service // those that nobody uses and that have no last good set, oldest first
	registrations map[*registration]struct{}
	watchers      map[registry.Watcher]struct{}
	used          map[wire.Identity]time.Time // when it was given up, for a while
}

var _ registry.Registry = (*Client)(nil)

// New returns a client of the registry whose nodes are at these addresses, each
// "host:port", "http://host:port" or "https://host:port". It does not contact
// them yet. Its errors are registry.ErrInvalid and say which address or option
// is wrong and what would be right.
func New(nodes []string, opts ...Option) (*Client, error) {
	seeds, seedsErr := parseSeeds(nodes)
	config, err := newConfig(opts)
	if err := errors.Join(seedsErr, err); err != nil {
		return nil, err
	}
	c := &Client{
		config:        config,
		closing:       newOnce(),
		nodes:         newNodes(seeds, config),
		services:      map[string]*service{},
		registrations: map[*registration]struct{}{},
		watchers:      map[registry.Watcher]struct{}{},
		used:          map[wire.Identity]time.Time{},
	}
	c.http, c.closeIdle = newHTTPClient(config.client, config.timeout)
	c.open, c.shut = context.WithCancel(context.Background())
	c.life, c.endLife = context.WithCancel(context.Background())
	return c, nil
}

// begin starts a call: it is waited for by Close, which also ends the context
// that it gets. The caller calls end when it is over.
func (c *Client) begin(ctx context.Context) (limited context.Context, end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, registry.ErrClosed
	}
	c.start.Do(func() { c.following.Go(func() { c.follow(c.life) }) })
	c.calls.Add(1)
	limited, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.open, func() { cancel(registry.ErrClosed) })
	return limited, func() {
		stop()
		cancel(nil)
		c.calls.Done()
	}, nil
}

// validService says whether name can be looked up.
func validService(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("httpregistry: %w: service is empty: give the name that servers register", registry.ErrInvalid)
	case !utf8.ValidString(name):
		return fmt.Errorf("httpregistry: %w: service %q is not UTF-8", registry.ErrInvalid, name)
	}
	return nil
}

// Fetch implements registry.Registry. A watched service is answered from its last
// poll, any other one from what was learned within the last second; what this
// Client itself has written since is seen at once.
func (c *Client) Fetch(ctx context.Context, service string) (registry.Snapshot, error) {
	if err := validService(service); err != nil {
		return registry.Snapshot{}, err
	}
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return registry.Snapshot{}, fmt.Errorf("httpregistry: fetch %q: %w", service, err)
	}
	defer end()
	s := c.acquire(service)
	defer c.release(s)
	return s.fetch(ctx)
}

// Watch implements registry.Registry. The service is polled for as long as it has
// a Watcher, once for all of them. Refresh asks at once, but never more often
// than once a second.
func (c *Client) Watch(ctx context.Context, service string) (registry.Watcher, error) {
	if err := validService(service); err != nil {
		return nil, err
	}
	_, end, err := c.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("httpregistry: watch %q: %w", service, err)
	}
	defer end()
	s := c.acquire(service)
	p := s.watch()
	var w registry.Watcher
	w = p.topic.Watch(p.refresh, func() {
		s.unwatch()
		c.release(s)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, w)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers[w] = struct{}{}
	return w, nil
}

// acquire returns what is known of a service, to be released.
func (c *Client) acquire(name string) *service {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[name]
	if s == nil {
		s = newService(c, name)
		c.services[name] = s
	}
	if i := slices.Index(c.unknown, s); i >= 0 {
		c.unknown = slices.Delete(c.unknown, i, i+1)
	}
	s.users++
	return s
}

// release keeps a service that nobody uses and that has no last good set only for
// a while: its name may have been anything.
func (c *Client) release(s *service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.users--
	if s.users > 0 || s.known() {
		return
	}
	c.unknown = append(c.unknown, s)
	if len(c.unknown) > maxUnknown {
		delete(c.services, c.unknown[0].name)
		c.unknown = slices.Delete(c.unknown, 0, 1)
	}
}

// written makes the next look at the service a fresh one: it has changed here.
func (c *Client) written(name string) {
	c.mu.Lock()
	s := c.services[name]
	c.mu.Unlock()
	if s != nil {
		s.expire()
	}
}

// Close implements registry.Registry. It takes at most 5 s and the timeout of one
// request.
func (c *Client) Close() error {
	c.closing.do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.shut()
		defer time.AfterFunc(closeTimeout, c.endLife).Stop()
		c.calls.Wait() // from here on nothing is added to what follows
		var ending sync.WaitGroup
		c.mu.Lock()
		for r := range c.registrations {
			ending.Go(func() { r.Deregister(context.Background()) })
		}
		for w := range c.watchers {
			ending.Go(func() { w.Close() })
		}
		c.mu.Unlock()
		ending.Wait()
		c.endLife()
		c.following.Wait()
		c.beating.Wait()
		c.closeIdle()
	})
	return nil
}

// once is what sync.Once is, and waits on a channel: what is done once may take
// a while.
type once struct {
	begun *atomic.Bool
	done  chan struct{}
}

func newOnce() once { return once{new(atomic.Bool), make(chan struct{})} }

// do calls f if it is the first, and returns when the first has returned.
func (o once) do(f func()) {
	if o.begun.CompareAndSwap(false, true) {
		defer close(o.done)
		f()
		return
	}
	<-o.done
}
