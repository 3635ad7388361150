package testenv

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"google.golang.org/grpc/test/bufconn"
)

// bufferSize is what a connection holds in each direction before a writer
// waits: a few HTTP/2 frames.
const bufferSize = 64 << 10

// Network is TCP in memory: listeners at addresses, and connections to them. No
// socket is opened, so it works in a synctest bubble. Make it with NewNetwork.
type Network struct {
	mu        sync.Mutex // guards all below and listener.killed; nothing is called under it
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
	n.listeners[addr] = &listener{Listener: bufconn.Listen(bufferSize), network: n, addr: tcp}
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
	c, err := l.DialContext(ctx)
	if err != nil && ctx.Err() == nil {
		return nil, refused // it closed meanwhile
	}
	return c, err
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
	if l != nil {
		l.killed = true
	}
	n.mu.Unlock()
	if l != nil {
		l.Close()
	}
	n.Cut(addr)
}

// listener is a bufconn listener that has an address and can be killed.
type listener struct {
	*bufconn.Listener
	network *Network
	addr    *net.TCPAddr
	killed  bool
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, fmt.Errorf("testenv: accept at %s: %w", l.addr, net.ErrClosed)
	}
	c := &conn{Conn: accepted, listener: l}
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	if l.killed {
		accepted.Close()
		return nil, fmt.Errorf("testenv: accept at %s: %w", l.addr, net.ErrClosed)
	}
	conns := l.network.conns[l.addr.String()]
	if conns == nil {
		conns = map[net.Conn]struct{}{}
		l.network.conns[l.addr.String()] = conns
	}
	conns[c] = struct{}{}
	return c, nil
}

func (l *listener) Close() error {
	l.network.mu.Lock()
	if addr := l.addr.String(); l.network.listeners[addr] == l {
		delete(l.network.listeners, addr)
	}
	l.network.mu.Unlock()
	return l.Listener.Close()
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

func (c *conn) LocalAddr() net.Addr { return c.listener.addr }
