package httpregistry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

const (
	// nodesInterval is how often the registry is asked for its nodes, give or take
	// 10 %: they change when somebody installs one.
	nodesInterval = 90 * time.Second
	// nodesSettle is how soon after a change of node the new one is asked.
	nodesSettle = time.Second
	// maxListed caps what the registry's list may add to the seeds. Anybody can
	// write to that list.
	maxListed = 32
)

// parseSeeds parses the configured addresses; each server once.
func parseSeeds(addrs []string) ([]*node, error) {
	if len(addrs) == 0 {
		return nil, fmt.Errorf("httpregistry: %w: no registry address: give at least one host:port", registry.ErrInvalid)
	}
	var seeds []*node
	for _, addr := range addrs {
		n, err := parseSeed(addr)
		if err != nil {
			return nil, fmt.Errorf("httpregistry: %w: registry address %q: %w; use host:port, http://host:port or https://host:port", registry.ErrInvalid, addr, err)
		}
		if !slices.ContainsFunc(seeds, func(o *node) bool { return o.url == n.url }) {
			seeds = append(seeds, n)
		}
	}
	return seeds, nil
}

func parseSeed(addr string) (*node, error) {
	text := addr
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	at, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	switch {
	case at.Scheme != "http" && at.Scheme != "https":
		return nil, fmt.Errorf("scheme %q is neither http nor https", at.Scheme)
	case strings.Trim(at.Path, "/") != "" || at.RawQuery != "" || at.Fragment != "" || at.User != nil:
		return nil, fmt.Errorf("there is more than host and port")
	}
	host := at.Host
	if at.Port() == "" && text == addr { // what names its scheme has the scheme's port
		host = net.JoinHostPort(at.Hostname(), map[string]string{"http": "80", "https": "443"}[at.Scheme])
	}
	if err := registry.ValidateAddr(host); err != nil {
		return nil, err
	}
	return newNode(at.Scheme, host, true), nil
}

func newNode(scheme, host string, seed bool) *node {
	return &node{url: (&url.URL{Scheme: scheme, Host: host}).String(), host: host, seed: seed}
}

// follow keeps the list of nodes up to date until ctx ends.
func (c *Client) follow(ctx context.Context) {
	for {
		timer := time.NewTimer(backoff.Jitter(nodesInterval, 0.1))
		select {
		case <-timer.C:
		case <-c.nodes.switched:
			timer.Stop()
			if backoff.Wait(ctx, backoff.Jitter(nodesSettle, 0.5)) != nil {
				return
			}
		case <-ctx.Done():
			timer.Stop()
			return
		}
		c.updateNodes(ctx)
	}
}

// updateNodes asks the registry for its nodes. When that fails, or it knows none
// (another env than its own), the list stays as it is.
func (c *Client) updateNodes(ctx context.Context) {
	var listed []wire.Instance
	_ = c.nodes.each(ctx, map[*node]bool{}, c.nodes.returnTo(), func(ctx context.Context, n *node) (err error) {
		listed, _, err = c.askNodes(ctx, n)
		return err
	})
	if len(listed) > 0 {
		c.nodes.compareNodes(listed)
	}
}

// askNodes asks one node for all of them, and for its time.
func (c *Client) askNodes(ctx context.Context, n *node) (listed []wire.Instance, date time.Time, err error) {
	r, err := c.post(ctx, n, wire.PathNodes, wire.NodesRequest{Env: c.registryEnv})
	if err == nil && r.Code == wire.CodeOK {
		listed, _, err = instancesOf(r.Data)
	}
	if odd, ok := errors.AsType[*oddAnswer](err); ok {
		err = &unsupported{odd} // it may still be a good node for everything else
	}
	return listed, r.date, err
}

// settled returns the name of a node that has been up for a lease, by its own
// account: the time since it registered itself, which it does at every start, by
// its own clock. It is "" if that is not certain, as behind a proxy or under
// another address than the node believes to have.
func (c *Client) settled(ctx context.Context, n *node) string {
	var name string
	_ = c.nodes.on(ctx, n, func(ctx context.Context, n *node) error {
		listed, date, err := c.askNodes(ctx, n)
		for _, entry := range listed {
			began := time.Unix(0, entry.RegTimestamp)
			if slices.ContainsFunc(entry.Addrs, n.is) && !date.IsZero() && date.Sub(began) >= c.lease {
				name = entry.Hostname
			}
		}
		return err
	})
	return name
}

// is says whether addr, as the registry lists it, is n.
func (n *node) is(addr string) bool {
	at, err := url.Parse(addr)
	return err == nil && at.Host == n.host
}

// returnTo is a seed to go back to from a node that is none.
func (s *nodes) returnTo() *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.seed {
		return nil
	}
	seeds := s.list[:s.seeds]
	return slices.MinFunc(seeds, func(a, b *node) int { return a.until.Compare(b.until) })
}

// compareNodes makes the list the seeds and what of listed can be used.
func (s *nodes) compareNodes(listed []wire.Instance) {
	s.mu.Lock()
	before := s.list
	list := slices.Clone(s.list[:s.seeds])
	for _, entry := range listed {
		for _, addr := range entry.Addrs {
			n := parseListed(addr, list[:s.seeds])
			if n == nil || len(list) == s.seeds+maxListed || slices.ContainsFunc(list, n.same) {
				continue
			}
			if i := slices.IndexFunc(before, n.same); i >= 0 {
				n = before[i]
			}
			list = append(list, n)
		}
	}
	s.list = list
	if !slices.Contains(list, s.current) {
		s.current = nil
	}
	s.wake()
	s.mu.Unlock()

	if names := hosts(list); !slices.Equal(names, hosts(before)) {
		s.log.Info("registry nodes changed", "nodes", names)
	}
}

func (n *node) same(o *node) bool { return n.url == o.url }

func hosts(list []*node) []string {
	names := make([]string, len(list))
	for i, n := range list {
		names[i] = n.host
	}
	slices.Sort(names)
	return names
}

// parseListed is a node from the registry's list, or nil for what nobody can
// dial, or should: no host, all interfaces, an interface of another machine, this
// machine if no seed is here, no TLS if all seeds speak it.
func parseListed(addr string, seeds []*node) *node {
	at, err := url.Parse(addr)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || registry.ValidateAddr(at.Host) != nil {
		return nil
	}
	if at.Scheme == "http" && !slices.ContainsFunc(seeds, func(n *node) bool { return strings.HasPrefix(n.url, "http:") }) {
		return nil
	}
	if ip, err := netip.ParseAddr(at.Hostname()); err == nil && (ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "") {
		return nil
	}
	if local(at.Hostname()) && !slices.ContainsFunc(seeds, func(n *node) bool {
		host, _, _ := net.SplitHostPort(n.host)
		return local(host)
	}) {
		return nil
	}
	return newNode(at.Scheme, at.Host, false)
}

// local says whether host is this machine and no other.
func local(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || host == "localhost"
}
