package testenv_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/testenv"
)

// inBubble runs f in a bubble with both ends of a connection.
func inBubble(t *testing.T, f func(t *testing.T, client, server net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := testenv.NewNetwork()
		client, server := connect(t, n, listen(t, n, addr))
		f(t, client, server)
	})
}

// fill writes to c until nothing more goes in.
func fill(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := c.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a connection that nobody reads takes everything: %v", err)
	}
	c.SetWriteDeadline(time.Time{})
}

func TestConnectionGoesBothWays(t *testing.T) {
	inBubble(t, func(t *testing.T, client, server net.Conn) {
		sent := bytes.Repeat([]byte("0123456789abc"), 50_000) // ten times what is buffered
		for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
			go func() {
				if n, err := pair[0].Write(sent); n != len(sent) || err != nil {
					t.Errorf("%d bytes written: %v", n, err)
				}
			}()
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(pair[1], got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("what arrived is not what was sent: %v", err)
			}
		}
		if client.RemoteAddr().String() != addr || server.RemoteAddr().String() != client.LocalAddr().String() {
			t.Errorf("from %v to %v, and back to %v", client.LocalAddr(), client.RemoteAddr(), server.RemoteAddr())
		}
	})
}

func TestDeadlines(t *testing.T) {
	for name, tt := range map[string]struct {
		set  []time.Duration // deadlines from now, one after another; 0: none
		want time.Duration   // until the error
	}{
		"in the past":       {set: []time.Duration{-time.Hour}},
		"to come":           {set: []time.Duration{3 * time.Second}, want: 3 * time.Second},
		"put off":           {set: []time.Duration{time.Second, time.Minute}, want: time.Minute},
		"brought forward":   {set: []time.Duration{time.Minute, time.Second}, want: time.Second},
		"taken away, other": {set: []time.Duration{time.Second, 0, time.Minute}, want: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, client, server net.Conn) {
				fill(t, client)
				began := time.Now()
				var done sync.WaitGroup
				for what, do := range map[string]func([]byte) (int, error){"read": client.Read, "write": client.Write} {
					done.Go(func() {
						_, err := do(make([]byte, 1))
						if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != tt.want {
							t.Errorf("%s: %v after %v, want a timeout after %v", what, err, time.Since(began), tt.want)
						}
					})
				}
				synctest.Wait()
				for _, d := range tt.set {
					var at time.Time
					if d != 0 {
						at = began.Add(d)
					}
					client.SetDeadline(at)
				}
				done.Wait()
				if _, err := server.Read(make([]byte, 1)); err != nil {
					t.Errorf("the other end suffered: %v", err)
				}
				client.SetDeadline(time.Time{})
				if _, err := client.Write(make([]byte, 1)); err != nil {
					t.Errorf("it does not go on without a deadline: %v", err)
				}
			})
		})
	}
}

func TestCloseWakesWhoeverWaits(t *testing.T) {
	for name, tt := range map[string]struct {
		close         func(client, server net.Conn) error
		read, written error
	}{
		"this end":  {close: func(client, _ net.Conn) error { return client.Close() }, read: net.ErrClosed, written: net.ErrClosed},
		"the other": {close: func(_, server net.Conn) error { return server.Close() }, read: io.EOF, written: syscall.EPIPE},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, client, server net.Conn) {
				fill(t, client)
				var done sync.WaitGroup
				done.Go(func() {
					if _, err := client.Read(make([]byte, 1)); !errors.Is(err, tt.read) {
						t.Errorf("read: %v, want %v", err, tt.read)
					}
				})
				done.Go(func() {
					if _, err := client.Write(make([]byte, 1)); !errors.Is(err, tt.written) {
						t.Errorf("write: %v, want %v", err, tt.written)
					}
				})
				synctest.Wait()
				tt.close(client, server)
				done.Wait()
			})
		})
	}
}

// The race detector of Go 1.26 does not survive timers that are due at once in
// several goroutines of one bubble.
func TestNothingIsDueAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testenv.NewNetwork()
		lis := listen(t, n, addr)
		var wg sync.WaitGroup
		for range 4 {
			client, _ := connect(t, n, lis)
			wg.Go(func() {
				for range 5000 {
					client.SetReadDeadline(time.Now())
					if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("read after the deadline: %v", err)
					}
				}
			})
		}
		wg.Wait()
	})
}
