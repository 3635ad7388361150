package testenv

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// clientAddr is where whoever dials is.
var clientAddr = &net.TCPAddr{IP: net.IPv4(10, 255, 255, 254), Port: 1024}

// Network is TCP in memory: listeners at addresses, and connections to them. No
// socket is opened, so it works in a synctest bubble. Make it with NewNetwork.
type Network struct {
	mu        sync.Mutex // guards all below; nothing is called under it
	listeners map[string]*listener
	conns     map[string]map[net.Conn]struct{} // by address, the listeners' ends
	dials     map[string]int
}

// NewNetwork returns a network on which nobody listens.
func NewNetwork() *Network {
	return &Network{listeners: map[string]*listener{}, conns: map[string]map[net.Conn]struct{}{}, dials: map[string]int{}}
}

// Listen listens at addr, an IP address and a port. Like a real network it
// refuses an address at which somebody listens already.
func (n *Network) Listen(addr string) (net.Listener, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("testenv: listen: %w", err)
	}
	tcp := net.TCPAddrFromAddrPort(ap)
	addr = tcp.String()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, fmt.Errorf("testenv: listen %s: address already in use", addr)
	}
	n.listeners[addr] = &listener{network: n, addr: tcp, dialled: make(chan net.Conn), down: make(chan struct{})}
	return n.listeners[addr], nil
}

// Dial connects to addr. It is for grpc.WithContextDialer and http.Transport.
func (n *Network) Dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.dials[addr]++
	n.mu.Unlock()
	refused := fmt.Errorf("testenv: dial %s: connection refused", addr)
	if l == nil {
		return nil, refused
	}
	client, server := newConns(clientAddr, l.addr)
	select {
	case l.dialled <- server:
		return client, nil
	case <-l.down: // meanwhile
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Dials returns how often somebody tried to connect to addr.
func (n *Network) Dials(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[addr]
}

// Cut breaks every connection to addr; what was written before is still read.
// Whoever listens there goes on listening.
func (n *Network) Cut(addr string) {
	n.mu.Lock()
	conns := n.conns[addr]
	delete(n.conns, addr)
	n.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

// Kill does to addr what the death of its process does: nobody listens there
// any more and every connection breaks.
func (n *Network) Kill(addr string) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l != nil {
		l.Close()
	}
	n.Cut(addr)
}

// listener is what listens at an address.
type listener struct {
	network *Network
	addr    *net.TCPAddr
	dialled chan net.Conn
	down    chan struct{} // closed, under network.mu, when it is
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case accepted := <-l.dialled:
		c := &conn{Conn: accepted, listener: l}
		if l.keep(c) {
			return c, nil
		}
		accepted.Close()
	case <-l.down:
	}
	return nil, fmt.Errorf("testenv: accept at %s: %w", l.addr, net.ErrClosed)
}

// keep makes c one of the network's connections, unless the listener is closed.
func (l *listener) keep(c *conn) bool {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	select {
	case <-l.down:
		return false
	default:
	}
	conns := l.network.conns[l.addr.String()]
	if conns == nil {
		conns = map[net.Conn]struct{}{}
		l.network.conns[l.addr.String()] = conns
	}
	conns[c] = struct{}{}
	return true
}

func (l *listener) Close() error {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	if addr := l.addr.String(); l.network.listeners[addr] == l {
		delete(l.network.listeners, addr)
		close(l.down)
	}
	return nil
}

// conn is the listener's end of a connection.
type conn struct {
	net.Conn
	listener *listener
}

func (c *conn) Close() error {
	n, addr := c.listener.network, c.listener.addr.String()
	n.mu.Lock()
	if delete(n.conns[addr], c); len(n.conns[addr]) == 0 {
		delete(n.conns, addr)
	}
	n.mu.Unlock()
	return c.Conn.Close()
}
