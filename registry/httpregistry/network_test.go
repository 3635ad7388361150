package httpregistry

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry/registryserver"
)

// network is TCP in memory, for use in a bubble: at each address there is a
// server, something that accepts and is silent, or nothing.
type network struct {
	t     testing.TB
	mu    sync.Mutex
	hosts map[string]*host
	dials map[string][]time.Time
}

// host is what is at an address.
type host struct {
	server *http.Server
	conns  chan net.Conn
	down   chan struct{} // closed when it goes away
	raw    func(net.Conn)
}

func newNetwork(t testing.TB) *network {
	n := &network{t: t, hosts: map[string]*host{}, dials: map[string][]time.Time{}}
	t.Cleanup(func() {
		for addr := range n.hosts {
			n.kill(addr)
		}
	})
	return n
}

// serve puts an HTTP server at addr, in place of what is there.
func (n *network) serve(addr string, handler http.Handler) {
	n.kill(addr)
	h := &host{conns: make(chan net.Conn), down: make(chan struct{})}
	h.server = &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	n.put(addr, h)
	go h.server.Serve(h)
}

// raw puts a program at addr that gets every connection and closes it.
func (n *network) raw(addr string, f func(net.Conn)) {
	n.kill(addr)
	n.put(addr, &host{down: make(chan struct{}), raw: f})
}

// hang puts something at addr that accepts and never says a word.
func (n *network) hang(addr string) {
	n.raw(addr, func(c net.Conn) { io.Copy(io.Discard, c) })
}

func (n *network) put(addr string, h *host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr] = h
}

// kill takes away what is at addr, with all its connections.
func (n *network) kill(addr string) {
	n.mu.Lock()
	h := n.hosts[addr]
	delete(n.hosts, addr)
	n.mu.Unlock()
	if h == nil {
		return
	}
	close(h.down)
	if h.server != nil {
		h.server.Close()
	}
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	h := n.hosts[addr]
	n.dials[addr] = append(n.dials[addr], time.Now())
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	if h == nil {
		return nil, refused
	}
	client, server := net.Pipe()
	if h.raw != nil {
		go func() {
			defer server.Close()
			h.raw(server)
		}()
		go func() {
			<-h.down
			server.Close()
		}()
		return client, nil
	}
	select {
	case h.conns <- server:
		return client, nil
	case <-h.down:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dialled returns how often addr was dialled since.
func (n *network) dialled(addr string, since time.Time) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, at := range n.dials[addr] {
		if !at.Before(since) {
			count++
		}
	}
	return count
}

func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.down:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error   { return nil }
func (h *host) Addr() net.Addr { return &net.TCPAddr{} }

// http is a client of the network.
func (n *network) http() *http.Client {
	transport := &http.Transport{DialContext: n.dial, MaxIdleConnsPerHost: 100}
	n.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// client is a registry client on the network; closed at the end of the test.
func (n *network) client(seeds []string, opts ...Option) *Client {
	n.t.Helper()
	c, err := New(seeds, append([]Option{WithHTTPClient(n.http())}, opts...)...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c
}

// registry puts a new, empty registry at addr, as a restart does. Requests can be
// diverted to other handlers by path.
func (n *network) registry(addr string, divert ...map[string]http.HandlerFunc) *registryserver.Server {
	n.t.Helper()
	s, err := registryserver.New(registryserver.WithAdvertise(addr), registryserver.WithNodeName("node-"+addr))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { s.Close() })
	n.serve(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, paths := range divert {
			if h := paths[r.URL.Path]; h != nil {
				h(w, r)
				return
			}
		}
		s.ServeHTTP(w, r)
	}))
	return s
}
