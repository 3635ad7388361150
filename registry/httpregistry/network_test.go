package httpregistry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
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

// fakeNode is a registry node and all that it was asked.
type fakeNode struct {
	*registryserver.Server
	mu       sync.Mutex
	divert   map[string]http.HandlerFunc
	requests []request
}

type request struct {
	at     time.Time
	path   string
	body   map[string]any
	header http.Header
}

// registry puts a new, empty registry at addr, as a restart does. Nothing expires
// there by default.
func (n *network) registry(addr string, opts ...registryserver.Option) *fakeNode {
	n.t.Helper()
	const never = 1000 * time.Hour
	s, err := registryserver.New(append([]registryserver.Option{
		registryserver.WithAdvertise(addr), registryserver.WithNodeName("node-" + addr),
		registryserver.WithExpiry(registryserver.Expiry{Lease: never, HardLease: never, Tick: time.Minute, Interval: 30 * time.Second, Threshold: 0.85}),
	}, opts...)...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { s.Close() })
	f := &fakeNode{Server: s, divert: map[string]http.HandlerFunc{}}
	n.serve(addr, f)
	return f
}

func (f *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(text))
	req := request{at: time.Now(), path: r.Method + " " + r.URL.Path, header: r.Header}
	json.Unmarshal(text, &req.body)
	f.mu.Lock()
	f.requests = append(f.requests, req)
	h := f.divert[r.URL.Path]
	f.mu.Unlock()
	if h != nil {
		h(w, r)
		return
	}
	f.Server.ServeHTTP(w, r)
}

// answer makes the node answer requests to path with h; nil: as it should.
func (f *fakeNode) answer(path string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.divert[path] = h
}

// asked returns the requests to path since.
func (f *fakeNode) asked(path string, since time.Time) (found []request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if r.path == "POST "+path && !r.at.Before(since) {
			found = append(found, r)
		}
	}
	return found
}

// put registers instances at this node alone, as if by others.
func (f *fakeNode) put(insts ...registry.Instance) {
	for _, inst := range insts {
		f.do(wire.PathRegister, encode("dev", inst))
	}
}

// drop cancels an instance at this node alone.
func (f *fakeNode) drop(service, id string) {
	f.do(wire.PathCancel, wire.Identity{Env: "dev", AppID: service, Hostname: id})
}

func (f *fakeNode) do(path string, body any) {
	text, _ := json.Marshal(body)
	f.Server.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, path, bytes.NewReader(text)))
}

// says is a handler that answers with this text as JSON.
func says200(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(w, text)
	}
}

// instance is the i-th instance of a service.
func instance(service string, i int) registry.Instance {
	return registry.Instance{Service: service, ID: fmt.Sprintf("i%d", i), Life: fmt.Sprintf("life%d", i), Addrs: []string{fmt.Sprintf("10.1.0.%d:9000", i)}}
}

// watching follows a service in the background and keeps all it was told.
type watching struct {
	registry.Watcher
	mu    sync.Mutex
	snaps []registry.Snapshot
	errs  []error
}

func watchIt(t testing.TB, c *Client, service string) *watching {
	t.Helper()
	w, err := c.Watch(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	v := &watching{Watcher: w}
	go func() {
		for {
			snap, err := w.Next(context.Background())
			if errors.Is(err, registry.ErrClosed) {
				return
			}
			v.mu.Lock()
			v.snaps, v.errs = append(v.snaps, snap), append(v.errs, err)
			v.mu.Unlock()
		}
	}()
	return v
}

// told is how often there was something new.
func (v *watching) told() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.snaps)
}

// last is what was told last: the IDs, with "?" after them if unconfirmed, or the error.
func (v *watching) last() (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.snaps) == 0 {
		return "nothing", nil
	}
	return ids(v.snaps[len(v.snaps)-1]), v.errs[len(v.errs)-1]
}

// all is every set or error that was told.
func (v *watching) all() (all []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.snaps {
		if v.errs[i] != nil {
			all = append(all, kind(v.errs[i]))
			continue
		}
		all = append(all, ids(v.snaps[i]))
	}
	return all
}

func ids(snap registry.Snapshot) string {
	var names []string
	for _, inst := range snap.Instances {
		names = append(names, inst.ID)
	}
	text := strings.Join(names, " ")
	if !snap.Confirmed {
		text += "?"
	}
	return text
}

// kind is which error of package registry err is.
func kind(err error) string {
	for _, known := range []error{registry.ErrUnavailable, registry.ErrUnknownService, registry.ErrInvalid, registry.ErrDuplicate, registry.ErrClosed} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprint(err)
}

// pass lets time pass and everything settle.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func mustRegister(t testing.TB, c *Client, inst registry.Instance) registry.Registration {
	t.Helper()
	r, err := c.Register(t.Context(), inst)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// events returns the kinds of the events so far.
func eventsOf(r registry.Registration) (kinds []registry.EventKind) {
	for {
		select {
		case e, ok := <-r.Events():
			if !ok {
				return kinds
			}
			kinds = append(kinds, e.Kind)
		default:
			return kinds
		}
	}
}

// logs keeps what is logged.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, nil))
}

func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

// count is how many lines contain text.
func (l *logs) count(text string) (count int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			count++
		}
	}
	return count
}
