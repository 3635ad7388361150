package testenv

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// bufferSize is what a connection holds in each direction before a writer
// waits: a few HTTP/2 frames.
const bufferSize = 64 << 10

// newConns returns the two ends of a connection. It is not a pair of gRPC's
// bufconn, because that makes timers that are due at once, and Go 1.26 runs those
// of one bubble side by side in one context of the race detector, which crashes
// the test binary. Here a deadline in the past needs no timer.
func newConns(client, server net.Addr) (*end, *end) {
	up, down := newPipe(), newPipe()
	return &end{in: down, out: up, local: client, remote: server},
		&end{in: up, out: down, local: server, remote: client}
}

// end is one end of a connection. What was written can be read also after the
// writer has closed.
type end struct {
	in, out       *pipe
	local, remote net.Addr
}

func (e *end) Read(b []byte) (int, error)  { return e.in.read(b) }
func (e *end) Write(b []byte) (int, error) { return e.out.write(b) }

func (e *end) Close() error {
	e.in.close(&e.in.readerGone)
	e.out.close(&e.out.writerGone)
	return nil
}

func (e *end) LocalAddr() net.Addr  { return e.local }
func (e *end) RemoteAddr() net.Addr { return e.remote }

func (e *end) SetDeadline(t time.Time) error {
	e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.in.setDeadline(&e.in.readBy, t)
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.out.setDeadline(&e.out.writeBy, t)
	return nil
}

// pipe is one direction of a connection.
type pipe struct {
	mu      sync.Mutex // guards all below
	changed sync.Cond  // something below has

	unread                 []byte // at most bufferSize
	readerGone, writerGone bool
	readBy, writeBy        deadline
}

// deadline is when the reader or the writer of a pipe waits no longer.
type deadline struct {
	passed bool
	timer  *time.Timer // nil unless it is to come
}

func newPipe() *pipe {
	p := new(pipe)
	p.changed.L = &p.mu
	return p
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readerGone:
			return 0, net.ErrClosed
		case p.readBy.passed:
			return 0, os.ErrDeadlineExceeded
		case len(p.unread) > 0:
			n := copy(b, p.unread)
			p.unread = append(p.unread[:0], p.unread[n:]...)
			p.changed.Broadcast()
			return n, nil
		case p.writerGone:
			return 0, io.EOF
		case len(b) == 0:
			return 0, nil
		}
		p.changed.Wait()
	}
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.writerGone:
			return n, net.ErrClosed
		case p.writeBy.passed:
			return n, os.ErrDeadlineExceeded
		case p.readerGone:
			return n, syscall.EPIPE
		}
		space := min(bufferSize-len(p.unread), len(b)-n)
		p.unread = append(p.unread, b[n:n+space]...)
		if n += space; space > 0 {
			p.changed.Broadcast()
		}
		if n == len(b) {
			return n, nil
		}
		p.changed.Wait()
	}
}

// close sets gone, the reader's or the writer's.
func (p *pipe) close(gone *bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*gone = true
	p.readBy.stop()
	p.writeBy.stop()
	p.changed.Broadcast()
}

// setDeadline sets d, the reader's or the writer's, to t; zero is none.
func (p *pipe) setDeadline(d *deadline, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.stop()
	left := time.Until(t)
	d.passed = !t.IsZero() && left <= 0
	if !t.IsZero() && left > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(left, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if d.timer == timer {
				d.passed = true
				p.changed.Broadcast()
			}
		})
		d.timer = timer
	}
	p.changed.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
