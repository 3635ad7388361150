package system

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// The registry dies under load and comes back a minute later, knowing nothing.
// Calls go on, also to servers that have never been called before, and within
// a heartbeat all servers are registered again.
func TestRegistryDiesAndComesBackEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{System: testenv.New(t), t: t}
		kill := w.startRegistry(registry1)
		w.useRegistry(registry1)
		for _, id := range []string{"a", "b", "c"} {
			w.start(registry.Instance{ID: id})
		}
		l := startLoad(t, w.client(balancer.RoundRobin{}, failmode.Failfast), 20, get)
		time.Sleep(10 * time.Second)
		kill()
		time.Sleep(time.Minute)
		w.startRegistry(registry1)
		time.Sleep(34 * time.Second) // a heartbeat and its jitter

		stranger := w.join(&host{network: w.Network})
		defer stranger.Close()
		snap, err := stranger.Fetch(t.Context(), service)
		if err != nil || len(snap.Instances) != 3 || !snap.Confirmed {
			t.Errorf("a new client finds %v, %v; want a, b and c", snap.Instances, err)
		}
		time.Sleep(5 * time.Minute) // doubts have been settled
		l.endWithoutFailure("a", "b", "c")
	})
}

// A server whose registry is down when it starts, and which may wait for it.
func TestServersAndClientsBeforeTheRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{System: testenv.New(t), t: t}
		w.useRegistry(registry1)
		client := echov1.NewEchoClient(w.client(balancer.RoundRobin{}, failmode.Failover))

		expectError(t, client, codes.Unavailable, registry.ErrUnavailable.Error(), registry1, service)
		served := make(chan time.Time)
		go func() {
			if _, err := client.Get(t.Context(), &echov1.GetRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Errorf("the call that waits: %v", err)
			}
			served <- time.Now()
		}()
		time.Sleep(time.Hour)
		w.startRegistry(registry1)
		time.Sleep(poll)
		expectError(t, client, codes.Unavailable, registry.ErrUnknownService.Error(), service)
		time.Sleep(time.Hour)
		w.start(registry.Instance{ID: "a"})
		up := time.Now()
		if took := (<-served).Sub(up); took > poll {
			t.Errorf("the call that waits was served %v after the server had come, want at most %v", took, poll)
		}
		testenv.Shares(t, w.client(balancer.RoundRobin{}, failmode.Failfast), 10)
	})
}

// poll is how soon a client must know what the registry knows: an interval with
// its jitter, and a second.
const poll = 6500 * time.Millisecond

// expectError makes a call that must fail at once with this code and all of
// these words.
func expectError(t *testing.T, client echov1.EchoClient, code codes.Code, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := client.Get(ctx, &echov1.GetRequest{})
	if status.Code(err) != code {
		t.Errorf("Get: %v, want %v", err, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
}

// What is missing is in the error: the service, in which environment, and who
// said so; or which instances there are and why they cannot be reached.
func TestErrorsSayWhatIsMissing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.start(registry.Instance{ID: "a"})
		conn := w.dialTarget("discovery:///ecco")
		expectError(t, echov1.NewEchoClient(conn), codes.Unavailable, `"ecco"`, `"test"`, registry1, registry.ErrUnknownService.Error())

		conn = w.dialTarget("discovery:///" + service + "?zone=b")
		expectError(t, echov1.NewEchoClient(conn), codes.Unavailable, service, "zone")
	})

	inBubble(t, func(t *testing.T, w *world) {
		a := w.start(registry.Instance{ID: "a"})
		a.kill()
		client := echov1.NewEchoClient(w.client(balancer.RoundRobin{}, failmode.Failfast))
		expectError(t, client, codes.Unavailable, "a", a.inst.Addrs[0], "connection refused")
		again := w.start(registry.Instance{ID: "a", Addrs: a.inst.Addrs})
		if _, err := client.Get(t.Context(), &echov1.GetRequest{}, grpc.WaitForReady(true)); err != nil || again.Executed() != 1 {
			t.Errorf("after its return: %v", err)
		}
	})
}

// Two of three registry nodes are dead. Everything works, and the dead ones are
// not bothered more than a backoff allows.
func TestDeadRegistryNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{System: testenv.New(t), t: t}
		const dead1, dead2 = "10.9.0.2:6666", "10.9.0.3:6666"
		w.startRegistry(registry1)
		w.useRegistry(dead1, dead2, registry1)
		w.start(registry.Instance{ID: "a"})
		l := startLoad(t, w.client(balancer.RoundRobin{}, failmode.Failfast), 5, get)
		time.Sleep(10 * time.Minute)
		l.endWithoutFailure("a")
		for _, addr := range []string{dead1, dead2} {
			// Each of two processes stays with the node that answers; a server looks for
			// itself at every node soon after its start and then every 4 to 6 minutes.
			if n := w.Network.Dials(addr); n > 2+3 {
				t.Errorf("the dead node %s was dialled %d times in 10 minutes", addr, n)
			}
		}
	})
}
