package test

import (
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
)

// A host vanishes without a word: what is sent to it is lost, and nobody says so.
// Under traffic nobody calls it 3 seconds later, and no call of a method that may be
// repeated is lost.
func TestCutHostIsAvoidedInSeconds(t *testing.T) {
	_, registry := startRegistry(t, "127.0.0.1:0")
	for _, id := range []string{"a", "b", "c"} {
		startServer(t, registry, id, "-latency", "5ms")
	}
	far := newFarHost(t)
	far.server(listens(t, startServer(t, registry, "far", "-latency", "5ms", "-advertise", far.lis.Addr().String()).Process))
	o := observe(t, registry, 4, "round_robin", failmode.Failover)
	o.start(within(250., 2000.), patience, get)
	lives(t, within(time.Second, 10*time.Second))
	far.cut()
	cut := time.Now()
	lives(t, within(6*time.Second, 20*time.Second))
	o.end()

	if o.lost() > 0 {
		t.Error(o)
	}
	attempts := o.at("far")
	if len(attempts) == 0 || attempts[0].began.After(cut) {
		t.Fatal("it was not called before")
	}
	for _, a := range attempts {
		if a.began.After(cut.Add(3 * time.Second)) {
			t.Errorf("it was called %v after the cut: %v", a.began.Sub(cut), a.err)
		}
	}
}

// farHost hands connections on to a server until it is cut off: from then on the
// kernel drops every packet to it unseen, as if the cable had been pulled.
type farHost struct {
	t   *testing.T
	lis *net.TCPListener
	up  chan struct{} // closed when backend is known

	mu      sync.Mutex // guards all below
	backend string
	conns   []*net.TCPConn
	running sync.WaitGroup
}

func newFarHost(t *testing.T) *farHost {
	t.Helper()
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // which takes no filters
	lis, err := plain.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &farHost{t: t, lis: lis.(*net.TCPListener), up: make(chan struct{})}
	h.running.Go(h.accept)
	t.Cleanup(func() {
		lis.Close()
		h.mu.Lock()
		for _, c := range h.conns {
			c.Close()
		}
		h.mu.Unlock()
		h.running.Wait()
	})
	return h
}

// server says who is called through the host.
func (h *farHost) server(addr string) {
	h.backend = addr
	close(h.up)
}

func (h *farHost) accept() {
	for {
		conn, err := h.lis.AcceptTCP()
		if err != nil {
			return
		}
		select {
		case <-h.up:
		case <-h.t.Context().Done():
			conn.Close()
			return
		}
		server, err := net.Dial("tcp", h.backend)
		if err != nil {
			conn.Close()
			continue
		}
		h.mu.Lock()
		h.conns = append(h.conns, conn, server.(*net.TCPConn))
		h.mu.Unlock()
		for from, to := range map[net.Conn]net.Conn{conn: server, server: conn} {
			h.running.Go(func() {
				_, _ = io.Copy(to, from)
				from.Close()
				to.Close()
			})
		}
	}
}

// cut drops what comes for the connections and for the listener.
func (h *farHost) cut() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	sockets := []syscall.Conn{h.lis}
	for _, c := range h.conns {
		sockets = append(sockets, c)
	}
	for _, s := range sockets {
		raw, err := s.SyscallConn()
		if err != nil {
			h.t.Fatal(err)
		}
		//lint:ignore SA1019 What is newer is in golang.org/x/net, which nothing else here needs.
		nothing := []syscall.SockFilter{*syscall.LsfStmt(syscall.BPF_RET|syscall.BPF_K, 0)} // bytes of the packet to keep
		//lint:ignore SA1019 As above.
		if ctrlErr := raw.Control(func(fd uintptr) { err = syscall.AttachLsf(int(fd), nothing) }); ctrlErr == nil && err != nil {
			h.t.Fatal(err)
		}
	}
}

// The same with little time for a call: what is lost is what was sent before the
// silence was noticed.
func TestCutHostCostsFewCalls(t *testing.T) {
	for _, client := range frozenClients {
		t.Run(client.name, func(t *testing.T) {
			besideOthers(t)
			_, registry := startRegistry(t, "127.0.0.1:0")
			for _, id := range []string{"a", "b", "c"} {
				startServer(t, registry, id, "-latency", "5ms")
			}
			far := newFarHost(t)
			far.server(listens(t, startServer(t, registry, "far", "-latency", "5ms", "-advertise", far.lis.Addr().String()).Process))
			o := observe(t, registry, 4, client.policy, failmode.Failover, client.opts...)
			o.start(within(300., 2000.), time.Second, client.call)
			lives(t, 2*time.Second)
			far.cut()
			lives(t, 5*time.Second)
			o.end()
			t.Log(o.lost(), "of", o.calls, "calls lost")
			if lost := o.lost(); lost > client.lost {
				t.Errorf("%d calls lost, want at most %d: %v", lost, client.lost, o)
			}
		})
	}
}
