package registryserver

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// inBubble runs f with a server on a network in memory.
func inBubble(t *testing.T, f func(t *testing.T, lis *pipeListener, stop func())) {
	synctest.Test(t, func(t *testing.T) {
		lis := newPipeListener()
		f(t, lis, serve(t, lis))
	})
}

// lifetime sends text on a new connection and returns what comes back and how
// long the server keeps the connection.
func lifetime(t *testing.T, lis *pipeListener, text string) (string, time.Duration) {
	t.Helper()
	conn, err := lis.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	start := time.Now()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer), time.Since(start)
}

// TestNobodyHoldsAConnectionForEver: each kind of slowness has its bound.
func TestNobodyHoldsAConnectionForEver(t *testing.T) {
	const whole = "POST /api/nodes HTTP/1.1\r\nHost: r\r\nContent-Length: 2\r\n\r\n{}"
	tests := map[string]struct {
		sends, gets string
		keeps       time.Duration
	}{
		"nothing":       {"P", "", headerTimeout},
		"half a header": {"POST /api/nodes HTTP/1.1\r\nHost:", "", headerTimeout},
		"half a body":   {whole[:len(whole)-1], badRequest, readTimeout},
		"idle":          {whole, fetchNone, idleTimeout},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, lis *pipeListener, _ func()) {
				got, kept := lifetime(t, lis, tt.sends)
				if !strings.HasSuffix(got, tt.gets) {
					t.Errorf("got %q, want %q", got, tt.gets)
				}
				if kept < tt.keeps || kept > tt.keeps+time.Second {
					t.Errorf("kept the connection %v, want %v", kept, tt.keeps)
				}
			})
		})
	}
}

// TestWhoDoesNotReadIsCutOff: an answer that nobody takes holds the connection
// no longer than the write timeout.
func TestWhoDoesNotReadIsCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, lis *pipeListener, _ func()) {
		conn, err := lis.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "POST /api/fetchall HTTP/1.1\r\nHost: r\r\nContent-Length: 0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(writeTimeout + time.Second)
		if answer, _ := io.ReadAll(conn); len(answer) > 0 {
			t.Errorf("the answer still came: %s", answer)
		}
	})
}

// TestServeEnds when its context does: idle connections are closed at once,
// half a request holds it up no longer than its grace.
func TestServeEnds(t *testing.T) {
	tests := map[string]struct {
		sends string
		takes time.Duration
	}{
		"no connection":   {"", 0},
		"idle connection": {"POST /api/nodes HTTP/1.1\r\nHost: r\r\nContent-Length: 2\r\n\r\n{}", 0},
		"half a request":  {"POST /api/nodes HTTP/1.1\r\nHost: r\r\nContent-Length: 2\r\n\r\n", shutdownGrace},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				lis := newPipeListener()
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- s.Serve(ctx, lis) }()
				closed := make(chan struct{}) // the connection, by the server
				if tt.sends == "" {
					close(closed)
				} else {
					conn, err := lis.dial()
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = conn.Close() }()
					go func() { defer close(closed); _, _ = io.Copy(io.Discard, conn) }()
					_, _ = io.WriteString(conn, tt.sends)
					synctest.Wait()
				}
				start := time.Now()
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("Serve: %v", err)
				}
				if took := time.Since(start); took < tt.takes || took > tt.takes+10*time.Millisecond {
					t.Errorf("took %v to end, want %v", took, tt.takes)
				}
				synctest.Wait()
				select {
				case <-closed:
				default:
					t.Error("the connection is still open")
				}
				if _, err := lis.dial(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("the listener: %v, want it closed", err)
				}
			})
		})
	}
}

// TestRequestUnderWayIsAnswered although Serve is ending.
func TestRequestUnderWayIsAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, lis *pipeListener, stop func()) {
		conn, err := lis.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		body := `{"appid":"app","status":1}`
		_, _ = io.WriteString(conn, "POST /api/register HTTP/1.1\r\nHost: r\r\nContent-Length: 26\r\n\r\n")
		synctest.Wait()
		done := make(chan struct{})
		go func() { defer close(done); stop() }()
		defer func() { <-done }()
		time.Sleep(shutdownGrace / 2)
		_, _ = io.WriteString(conn, body)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := io.ReadAll(resp.Body); string(text) != registerOK {
			t.Errorf("answered %s, want %s", text, registerOK)
		}
	})
}

// TestCloseWaitsForServe, which waits for a request under way.
func TestCloseWaitsForServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		lis := newPipeListener()
		go func() { _ = s.Serve(context.Background(), lis) }()
		conn, err := lis.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "POST /api/nodes HTTP/1.1\r\nHost: r\r\nContent-Length: 2\r\n\r\n")
		synctest.Wait()
		start := time.Now()
		_ = s.Close()
		if took := time.Since(start); took != shutdownGrace {
			t.Errorf("took %v, want %v", took, shutdownGrace)
		}
	})
}

func TestCloseAndServe(t *testing.T) {
	s := newServer(t)
	register(t, s, "app", "h1")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	lis := newPipeListener()
	if err := s.Serve(t.Context(), lis); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("Serve after Close: %v, want ErrClosed", err)
	}
	if _, err := lis.dial(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve after Close left the listener open: %v", err)
	}
	if got := ids(fetch(t, s, "app")); got != "h1" {
		t.Errorf("after Close the instances are %q, want h1", got)
	}
}

func TestServeReportsABrokenListener(t *testing.T) {
	s := newServer(t)
	lis := newPipeListener()
	_ = lis.Close()
	if err := s.Serve(t.Context(), lis); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "serve pipe") {
		t.Errorf("Serve: %v, want the listener's error and its address", err)
	}
}

// TestAdvertise: what /api/nodes tells.
func TestAdvertise(t *testing.T) {
	listen := func(t *testing.T) net.Listener {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return lis
	}
	t.Run("the first listener", func(t *testing.T) {
		s, err := New()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		expect(t, s, wire.PathNodes, `{"env":"dev"}`, fetchNone)
		expect(t, s, wire.PathFetchAll, ``, `{"code":200,"data":{},"message":""}`)
		first, second := listen(t), listen(t)
		go func() { _ = s.Serve(context.Background(), first) }()
		go func() {
			// Asked over the network: then the first Serve is up.
			_, _ = roundTrip(func() (net.Conn, error) { return net.Dial("tcp", first.Addr().String()) }, "POST", "POST / HTTP/1.1\r\nHost: r\r\n\r\n")
			_ = s.Serve(context.Background(), second)
		}()
		got, err := roundTrip(func() (net.Conn, error) { return net.Dial("tcp", second.Addr().String()) }, "POST",
			"POST /api/nodes HTTP/1.1\r\nHost: r\r\nContent-Length: 13\r\n\r\n"+`{"env":"dev"}`)
		if want := `"addrs":["http://` + first.Addr().String() + `"]`; err != nil || !strings.Contains(string(got.body), want) {
			t.Errorf("nodes answers %s, %v, want %s", got.body, err, want)
		}
	})
	t.Run("a listener is reached where it listens", func(t *testing.T) {
		tests := map[string]string{"127.0.0.1:6666": "127.0.0.1:6666", "[::1]:6666": "[::1]:6666", "192.0.2.7:1": "192.0.2.7:1"}
		for addr, want := range tests {
			if got := dialable(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))); got != want {
				t.Errorf("dialable(%s) = %s, want %s", addr, got, want)
			}
		}
		if got := dialable(pipeAddr{}); got != "" {
			t.Errorf("dialable(pipe) = %s, want nothing", got)
		}
	})
	t.Run("a wildcard is reached at an address of this machine", func(t *testing.T) {
		for _, wildcard := range []string{"0.0.0.0:6666", "[::]:6666"} {
			got := dialable(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(wildcard)))
			at, err := netip.ParseAddrPort(got)
			if err != nil || at.Addr().IsUnspecified() || at.Port() != 6666 {
				t.Fatalf("dialable(%s) = %s, %v", wildcard, got, err)
			}
			lis, err := net.Listen("tcp", netip.AddrPortFrom(at.Addr(), 0).String())
			if err != nil {
				t.Fatalf("%s is not an address of this machine: %v", got, err)
			}
			_ = lis.Close()
		}
	})
}
