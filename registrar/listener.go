package registrar

import (
	"net"
	"sync"
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
}

func newListener(lis net.Listener, onClose func()) *listener {
	return &listener{Listener: lis, onClose: onClose, accepting: make(chan struct{}), closed: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	l.acceptOnce.Do(func() { close(l.accepting) })
	return l.Listener.Accept()
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.closeOnce.Do(func() {
		close(l.closed)
		l.onClose()
	})
	return l.Listener.Close()
}
