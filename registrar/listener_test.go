package registrar_test

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/registrar"
)

func TestListenerEnds(t *testing.T) {
	tests := map[string]struct {
		end  func(r *rig)
		want error
	}{
		"listener closed":      {func(r *rig) { r.lis.Close() }, net.ErrClosed},
		"GracefulStop from us": {func(r *rig) { r.server.GracefulStop() }, nil},
		"Stop from us":         {func(r *rig) { r.server.Stop() }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t).serve()
				time.Sleep(time.Second)
				go test.end(r)
				r.wantResult(test.want)
				// Out of the registry at once, and no drain delay.
				if _, holds := r.reg.count(); holds != 0 || time.Since(r.journal.began) != time.Second {
					t.Errorf("%d registrations left after %v", holds, time.Since(r.journal.began))
				}
			})
		})
	}
}

func TestGracefulStopByTheProgramFinishesCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		r.echo.OnCall(testenv.Delay(3 * time.Second))
		call := get(t.Context(), r.dial(nil))
		synctest.Wait()
		go r.server.GracefulStop()
		synctest.Wait()
		if _, holds := r.reg.count(); holds != 0 {
			t.Error("it does not listen any more and is still registered")
		}
		if a := <-call; a.err != nil {
			t.Errorf("the call in hand: %v", a.err)
		}
		r.wantResult(nil)
	})
}

func TestServerThatWasStoppedBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.server.Stop()
		r.serve().wantResult(grpc.ErrServerStopped)
		if asked, _ := r.reg.count(); asked != 0 {
			t.Error("it was registered")
		}
	})
}

// The drain delay is for clients that are connected: it ends when there have
// been none for a while.
func TestDrainDelayEndsWhenNobodyIsConnected(t *testing.T) {
	tests := map[string]struct {
		clients func(r *rig) // after the drain has begun
		want    time.Duration
	}{
		"nobody ever": {func(*rig) {}, 2 * time.Second},
		"one stays": {func(r *rig) {
			r.conn(nil).Connect()
		}, 7 * time.Second},
		"one goes": {func(r *rig) {
			conn := r.conn(nil)
			conn.Connect()
			time.AfterFunc(2900*time.Millisecond, func() { conn.Close() })
		}, 4750 * time.Millisecond},
		"one comes and goes between two looks": {func(r *rig) {
			time.AfterFunc(1300*time.Millisecond, func() {
				conn := r.conn(nil)
				conn.Connect()
				time.AfterFunc(100*time.Millisecond, func() { conn.Close() })
			})
		}, 3500 * time.Millisecond},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t).serve()
				began := time.Now()
				r.cancel()
				synctest.Wait()
				test.clients(r)
				r.wantResult(nil)
				if took := time.Since(began); took != test.want {
					t.Errorf("it took %v, want %v", took, test.want)
				}
			})
		})
	}
}

// Connections that cannot be asked are taken for open.
func TestDrainDelayOfConnectionsThatCannotTell(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.lis = r.lis.(*tellingListener).Listener
		r.serve()
		conn := r.conn(nil)
		conn.Connect()
		synctest.Wait()
		conn.Close()
		began := time.Now()
		r.cancel()
		r.wantResult(nil)
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// What is remembered of connections is forgotten after they are closed, whether
// many come one after the other or at once.
func TestClosedConnectionsAreForgotten(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	watched := registrar.NewListener(lis)
	defer watched.Close()
	visit := func() (client, server net.Conn) {
		client, err := net.Dial("tcp", lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if server, err = watched.Accept(); err != nil {
			t.Fatal(err)
		}
		if _, ok := server.(*net.TCPConn); !ok {
			t.Fatalf("the server is handed a %T", server)
		}
		return client, server
	}
	for range 1000 {
		client, server := visit()
		client.Close()
		server.Close()
	}
	if got := registrar.Remembered(watched); got > 65 {
		t.Errorf("%d connections are remembered", got)
	}
	client, server := visit()
	defer client.Close()
	registrar.Deserted(watched) // forgets that somebody came
	if registrar.Deserted(watched) {
		t.Error("deserted, with a connection open")
	}
	server.Close()
	if !registrar.Deserted(watched) {
		t.Error("not deserted, with no connection open")
	}
}
