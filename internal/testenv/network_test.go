package testenv_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rollcall-go/rollcall/internal/testenv"
)

const addr = "10.0.0.1:9000"

// connect returns both ends of a connection to lis.
func connect(t *testing.T, n *testenv.Network, lis net.Listener) (client, server net.Conn) {
	t.Helper()
	accepted := make(chan net.Conn)
	go func() {
		c, err := lis.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	client, err := n.Dial(t.Context(), lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return client, <-accepted
}

func listen(t *testing.T, n *testenv.Network, addr string) net.Listener {
	t.Helper()
	lis, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

func TestNetworkRefusesWhereNobodyListens(t *testing.T) {
	n := testenv.NewNetwork()
	if _, err := n.Dial(t.Context(), addr); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("dial: %v", err)
	}
	lis := listen(t, n, addr)
	if _, err := n.Listen(addr); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("listening twice: %v", err)
	}
	lis.Close()
	if _, err := n.Dial(t.Context(), addr); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("dial after Close: %v", err)
	}
	if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after Close: %v", err)
	}
	listen(t, n, addr)
	if _, err := n.Listen("not an address"); err == nil {
		t.Error("listening at nonsense: no error")
	}
	if got := n.Dials(addr); got != 2 {
		t.Errorf("%d dials counted, want 2", got)
	}
}

func TestNetworkConnectionsKnowTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testenv.NewNetwork()
		lis := listen(t, n, addr)
		_, server := connect(t, n, lis)
		if lis.Addr().String() != addr || server.LocalAddr().String() != addr {
			t.Errorf("listener %v, connection %v; want %s", lis.Addr(), server.LocalAddr(), addr)
		}
	})
}

func TestCutAndKill(t *testing.T) {
	for _, kill := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := testenv.NewNetwork()
			lis, other := listen(t, n, addr), listen(t, n, "10.0.0.2:9000")
			client, server := connect(t, n, lis)
			unharmed, _ := connect(t, n, other)
			if _, err := server.Write([]byte("bye")); err != nil {
				t.Error(err)
			}
			if kill {
				n.Kill(addr)
			} else {
				n.Cut(addr)
			}
			if got, err := io.ReadAll(client); string(got) != "bye" || err != nil {
				t.Errorf("read %q, %v; want what was written before the end", got, err)
			}
			if _, err := client.Write([]byte("?")); err == nil {
				t.Error("a broken connection can be written to")
			}
			if _, err := unharmed.Write([]byte("!")); err != nil {
				t.Errorf("another address suffered: %v", err)
			}
			if !kill {
				connect(t, n, lis)
			} else if _, err := n.Dial(t.Context(), addr); err == nil {
				t.Error("a killed address can be dialled")
			}
		})
	}
}

// A process that is stopping has closed its listener and still has connections.
func TestKillReachesConnectionsOfAClosedListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := testenv.NewNetwork()
		lis := listen(t, n, addr)
		client, _ := connect(t, n, lis)
		lis.Close()
		n.Kill(addr)
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v, want EOF", err)
		}
	})
}
