package httpregistry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/rollcall-go/rollcall/registry"
)

// LocalAddr returns the local address of the route to the registry: the first
// node, the current one before the others, to which there is a route. Nothing is
// sent. It is what a server advertises that listens on all interfaces.
func (c *Client) LocalAddr(ctx context.Context) (netip.Addr, error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("httpregistry: local address: %w", err)
	}
	defer end()
	var failed []error
	for _, host := range c.nodes.hosts() {
		// To connect a UDP socket only chooses a route.
		conn, err := new(net.Dialer).DialContext(ctx, "udp", host)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		addr := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		conn.Close()
		return addr, nil
	}
	return netip.Addr{}, fmt.Errorf("httpregistry: local address: %w: %w", registry.ErrUnavailable, errors.Join(failed...))
}

// hosts returns the host:port of every node, the current one first.
func (s *nodes) hosts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hosts []string
	if s.current != nil {
		hosts = append(hosts, s.current.host)
	}
	for _, n := range s.list {
		if n != s.current {
			hosts = append(hosts, n.host)
		}
	}
	return hosts
}
