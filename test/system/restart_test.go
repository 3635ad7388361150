package system

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer/roundrobin"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// Every server is restarted in turn under load, and nobody notices: whatever
// the client does when a call fails, it does not fail.
func TestRollingRestart(t *testing.T) {
	policy := func(mode failmode.Mode) func(*world) *grpc.ClientConn {
		return func(w *world) *grpc.ClientConn { return w.client(balancer.WeightedRoundRobin{}, mode) }
	}
	stock := func(w *world) *grpc.ClientConn {
		return w.dial(grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"` + roundrobin.Name + `": {}}]}`))
	}
	for _, test := range []struct {
		name     string
		registry func(*testing.T, func(*testing.T, *world))
		client   func(*world) *grpc.ClientConn
		newAddrs bool
	}{
		{"failover, registry in memory", inBubbleInMemory, policy(failmode.Failover), false},
		{"failover", inBubble, policy(failmode.Failover), false},
		{"failover, new addresses", inBubble, policy(failmode.Failover), true},
		{"failfast", inBubble, policy(failmode.Failfast), false},
		{"failfast, new addresses", inBubble, policy(failmode.Failfast), true},
		{"gRPC's own round robin", inBubble, stock, false},
		{"gRPC's own round robin, new addresses", inBubble, stock, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.registry(t, func(t *testing.T, w *world) {
				servers := []*process{}
				for _, id := range []string{"a", "b", "c"} {
					servers = append(servers, w.start(registry.Instance{ID: id}))
				}
				for _, s := range servers {
					s.OnCall(testenv.Delay(20 * time.Millisecond))
				}
				l := startLoad(t, test.client(w), 50, add)
				time.Sleep(10 * time.Second)
				all := servers
				for _, s := range servers {
					s.shutdown()
					inst := registry.Instance{ID: s.inst.ID}
					if !test.newAddrs {
						inst.Addrs = s.inst.Addrs
					}
					again := w.start(inst)
					again.OnCall(testenv.Delay(20 * time.Millisecond))
					all = append(all, again)
					time.Sleep(10 * time.Second) // the clients poll
				}
				l.endWithoutFailure("a", "b", "c")
				once(t, l.calls, all)
				for _, s := range all {
					if s.Executed() == 0 {
						t.Errorf("a process of %s has not been called at all", s.inst.ID)
					}
				}
			})
		})
	}
}

// once checks that each of the calls was executed once, by whichever process.
func once(t *testing.T, calls int, all []*process) {
	t.Helper()
	for n := range calls {
		if times := executions(all, n); times != 1 {
			t.Errorf("call %d was executed %d times", n, times)
		}
	}
}

func executions(all []*process, n int) (times int64) {
	for _, s := range all {
		times += s.Total(key(n))
	}
	return times
}

// A process dies without a word. Calls that may run again are answered by
// others; of payments only those in its hands fail, and none runs twice. While
// the registry still lists it nobody waits for it, and when it is back it gets
// its share again.
func TestKill(t *testing.T) {
	for _, test := range []struct {
		name   string
		call   call
		inHand int // calls that may be lost
	}{
		{"a read", get, 0},
		{"a payment", add, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				a, b := w.start(registry.Instance{ID: "a"}), w.start(registry.Instance{ID: "b"})
				for _, s := range []*process{a, b} {
					s.OnCall(testenv.Delay(50 * time.Millisecond))
				}
				l := startLoad(t, w.client(balancer.RoundRobin{}, failmode.Failover), 40, test.call)
				time.Sleep(10*time.Second + time.Millisecond)
				a.kill()
				time.Sleep(time.Minute) // shorter than its lease
				before := w.Network.Dials(a.inst.Addrs[0])
				again := w.start(registry.Instance{ID: "a", Addrs: a.inst.Addrs})
				time.Sleep(10 * time.Second)
				if before < 3 {
					t.Errorf("the dead one was dialled %d times in a minute, want it tried again and again", before)
				}
				share := l.shares(10 * time.Second)
				if n := share["a"]; n < 180 || n > 220 {
					t.Errorf("a has %d of 400 calls after its return, want half", n)
				}
				if failed := l.end(); failed > test.inHand {
					t.Errorf("%d of %d calls failed, want at most the %d in hand: %v", failed, l.calls, test.inHand, l.failed)
				}
				for n := range l.calls {
					if times := executions([]*process{a, b, again}, n); times > 1 {
						t.Errorf("call %d was executed %d times", n, times)
					}
				}
			})
		})
	}
}

// From the first moment of its drain a server gets no new calls, long before
// the clients hear of it from the registry.
func TestDrainIsHeardInBand(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.start(registry.Instance{ID: "a"})
		w.start(registry.Instance{ID: "b"})
		conn := w.client(balancer.RoundRobin{}, failmode.Failfast)
		if got := testenv.Shares(t, conn, 10); got["a"] != 5 {
			t.Errorf("shares: %v, want half each", got)
		}
		done := make(chan error)
		go func() { done <- a.Shutdown(context.Background()) }()
		time.Sleep(time.Millisecond)
		testenv.Shares(t, conn, 2) // one of them hears it from a
		before := a.Executed()
		if got := testenv.Shares(t, conn, 100); got["b"] != 100 || a.Executed() != before {
			t.Errorf("shares while a drains: %v", got)
		}
		if err := <-done; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		testenv.Shares(t, conn, 10)
	})
}

// A stream that runs when its server drains learns of it, ends politely, and is
// waited for.
func TestStreamsEndPolitely(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.start(registry.Instance{ID: "a"})
		client := echov1.NewEchoClient(w.client(balancer.RoundRobin{}, failmode.Failover))
		stream, err := client.Stream(t.Context(), &echov1.StreamRequest{Count: 10, IntervalMs: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); a.shutdown() }()
		synctest.Wait()
		for i := range 9 {
			if _, err := stream.Recv(); err != nil {
				t.Fatalf("message %d: %v", i+1, err)
			}
		}
		<-done
	})
}
