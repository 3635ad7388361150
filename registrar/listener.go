package registrar

import (
	"net"
	"slices"
	"sync"
	"syscall"
)

// listener tells when the server begins to accept connections and when it ends,
// so that the server is registered in between only. Server.Serve would say
// neither: GracefulStop closes the listener at once and Serve returns later.
type listener struct {
	net.Listener
	onClose   func()
	accepting chan struct{} // closed at the first Accept
	closed    chan struct{}

	acceptOnce, closeOnce sync.Once

	mu     sync.Mutex        // guards all below; no connection is used under it but to ask whether it is closed
	conns  []syscall.RawConn // those that are open, and some that are not
	sweep  int               // how many conns there may be until the closed ones are dropped
	called bool              // a connection has come since deserted was asked
	blind  bool              // there are connections that do not say whether they are closed
}

// minSweep is how many connections are remembered before any is looked at.
const minSweep = 64

func newListener(lis net.Listener, onClose func()) *listener {
	return &listener{Listener: lis, onClose: onClose, accepting: make(chan struct{}), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	l.acceptOnce.Do(func() { close(l.accepting) })
	conn, err := l.Listener.Accept()
	if err == nil {
		l.remember(conn)
	}
	return conn, err
}

// remember keeps hold of conn, which is handed to the server as it is: gRPC sets
// TCP_USER_TIMEOUT on a *net.TCPConn only, and credentials may want to see the
// very connection.
func (l *listener) remember(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.called = true
	sys, ok := conn.(syscall.Conn)
	if !ok {
		l.blind, l.conns = true, nil
		return
	}
	raw, err := sys.SyscallConn()
	if err != nil || l.blind {
		return // closed already, or of no use
	}
	if l.conns = append(l.conns, raw); len(l.conns) > max(l.sweep, minSweep) {
		l.conns = slices.DeleteFunc(l.conns, isClosed)
		l.sweep = 2 * len(l.conns)
	}
}

// deserted says whether no connection is open, and none has come since it was
// last asked. Where that cannot be told it is false.
func (l *listener) deserted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	called := l.called
	l.called = false
	return !called && !l.blind && !slices.ContainsFunc(l.conns, func(c syscall.RawConn) bool { return !isClosed(c) })
}

// isClosed says whether this side has closed the connection, as gRPC does when
// the other side has.
func isClosed(conn syscall.RawConn) bool { return conn.Control(func(uintptr) {}) != nil }

// Close implements net.Listener.
func (l *listener) Close() error {
	l.closeOnce.Do(func() {
		l.onClose() // first: whoever waits for closed asks then whether it is to go on
		close(l.closed)
	})
	return l.Listener.Close()
}
