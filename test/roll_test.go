package test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	gogrpc "google.golang.org/grpc" // grpc is a rule of imports_test.go
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
	"github.com/rollcall-go/rollcall/resolver"
)

// rollingClients differ in policy, fail mode and kind of call. On a clean restart
// none of them loses a call, whatever it does about calls that fail. There is one
// more, without anything of ours but the resolver, which calls put.
var rollingClients = map[string][]string{
	"weighted round robin, failover": {"-policy", "weighted_round_robin", "-fail-mode", "failover", "-method", "get"},
	"round robin, failfast":          {"-policy", "round_robin", "-fail-mode", "failfast", "-method", "add"},
	"random, failover, streams":      {"-policy", "random", "-fail-mode", "failover", "-method", "stream"},
}

// roll is a service of four servers under the load of the clients.
type roll struct {
	t        *testing.T
	registry string
	args     []string // of each server
	servers  map[string]server
	rate     float64 // calls per second of each client
	finish   map[string]func() report
}

// startRoll returns when every client has reached every server.
func startRoll(t *testing.T, registry string, rate float64, args ...string) *roll {
	t.Helper()
	r := &roll{t: t, registry: registry, args: args, servers: map[string]server{}, rate: rate, finish: map[string]func() report{}}
	for _, id := range []string{"a", "b", "c", "d"} {
		r.servers[id] = startServer(t, registry, id, args...)
	}
	for name, args := range rollingClients {
		// A call may take long on a busy machine and is not lost for that.
		args = append([]string{"-timeout", arg(patience), "-warm-up", "1s", "-rps", arg(rate), "-duration", "0"}, args...)
		client := startClient(t, registry, args...)
		r.finish[name] = func() report { return interrupt(t, client) }
	}
	r.finish["stock round robin"] = startStock(t, registry, rate)
	for id := range r.servers {
		r.reached(id, everyClient...)
	}
	return r
}

// everyClient is known by the method that it calls.
var everyClient = []string{"get", "add", "stream", "put"}

// reached waits until these clients have called the server.
func (r *roll) reached(id string, methods ...string) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("calls of %v reach %s", methods, id), func() bool {
		executed := r.servers[id].executed(r.t)
		return !slices.ContainsFunc(methods, func(method string) bool { return executed[method] == 0 })
	})
}

// restartEach stops one server after the other and starts it again, on the same
// port or on a new one; the next one's turn comes when these clients use it.
func (r *roll) restartEach(samePort bool, methods ...string) {
	r.t.Helper()
	for _, id := range slices.Sorted(maps.Keys(r.servers)) {
		old := r.servers[id].Process
		old.Signal(syscall.SIGTERM)
		if code := ended(r.t, old, patience+within(0, time.Minute)); code != 0 { // with the longest drain delay
			r.t.Fatalf("%s exited with %d after SIGTERM:\n%s", id, code, tail(old.Output()))
		}
		listen := "127.0.0.1:0"
		if samePort {
			listen = listens(r.t, old)
		}
		r.servers[id] = launchServer(r.t, r.registry, id, append([]string{"-listen", listen}, r.args...)...)
		r.reached(id, methods...)
	}
}

// check ends the load and fails the test if a call was lost, or if a client has
// not made the calls that it was to make.
func (r *roll) check() {
	r.t.Helper()
	for name, finish := range r.finish {
		got := finish()
		if got.Failed != 0 || got.OK == 0 || got.OK != got.Calls {
			r.t.Errorf("%s: %d of %d calls failed: %v %+v", name, got.Failed, got.Calls, got.Errors, got.Messages)
		}
		if planned := r.rate * got.Seconds; float64(got.Calls) < 0.95*planned {
			r.t.Errorf("%s made %d of %.0f calls", name, got.Calls, planned)
		}
		r.t.Logf("%s: %d calls in %.0f s, %d failed, p99 %.1f ms", name, got.Calls, got.Seconds, got.Failed, got.P99)
	}
}

// startStock calls the service with gRPC's own round robin, in an open loop and in
// this process, and fails fast. The function returned ends that.
func startStock(t *testing.T, registry string, rate float64) (finish func() report) {
	t.Helper()
	reg, err := httpregistry.New([]string{registry}, httpregistry.WithPollInterval(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := gogrpc.NewClient("discovery:///echo", gogrpc.WithTransportCredentials(insecure.NewCredentials()),
		gogrpc.WithResolvers(resolver.NewBuilder(reg)), gogrpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"`+roundrobin.Name+`": {}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &stock{client: echov1.NewEchoClient(conn), result: report{Errors: map[string]int64{}}}
	var load sync.WaitGroup
	load.Go(func() { s.result.Seconds = openLoop(ctx, rate, s.call) })
	end := sync.OnceFunc(func() {
		cancel()
		load.Wait()
		conn.Close()
		reg.Close()
	})
	t.Cleanup(end)
	return func() report { end(); return s.result }
}

type stock struct {
	client echov1.EchoClient
	mu     sync.Mutex // guards result
	result report
}

func (s *stock) call() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := s.client.Put(ctx, &echov1.PutRequest{Key: "key"})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Calls++
	if err == nil {
		s.result.OK++
		return
	}
	s.result.Failed++
	s.result.Errors[status.Convert(err).Message()]++
}

// Every server is restarted, on the port that it had and on a new one, and nobody
// loses a call.
func TestRollLosesNoCall(t *testing.T) {
	besideOthers(t)
	_, registry := startRegistry(t, "127.0.0.1:0")
	r := startRoll(t, registry, within(100., 2000.))
	began := time.Now()
	for round := 0; round < within(1, 5) || time.Since(began) < *rollFor; round++ {
		r.restartEach(true, everyClient...)
		r.restartEach(false, everyClient...)
	}
	r.check()
}
