package test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
)

func TestRegistryRestartLosesNoCall(t *testing.T) {
	reg, addr := startRegistry(t, "127.0.0.1:0")
	heartbeat := within(2*time.Second, 30*time.Second)
	weighted(t, addr, "-heartbeat", arg(heartbeat))
	client := startClient(t, addr, "-rps", arg(within(500, 2000)), "-duration", "0")
	said(t, client, "  a ")

	reg.Kill()
	down := time.NewTimer(within(5*time.Second, time.Minute))
	defer down.Stop()
	select {
	case <-down.C:
	case <-client.Done():
	}
	startRegistry(t, addr)
	back := time.Now()
	awaitService(t, addr, "echo", func(ids []string) bool { return slices.Equal(ids, []string{"a", "b", "c"}) })
	if took := time.Since(back); took > heartbeat*11/10+5*time.Second { // its jitter, and a busy machine
		t.Errorf("the servers were back after %v; their heartbeat is %v", took, heartbeat)
	}
	interrupt(t, client).failsNone(t)
}

// awaitService waits until the registry's instances of the service are as wanted.
func awaitService(t *testing.T, addr, service string, wanted func(ids []string) bool) {
	t.Helper()
	reg, err := httpregistry.New([]string{addr}, httpregistry.WithPollInterval(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watcher, err := reg.Watch(ctx, service)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	for {
		snap, err := watcher.Next(ctx)
		var ids []string
		for _, inst := range snap.Instances {
			ids = append(ids, inst.ID)
		}
		if wanted(ids) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the registry has %v of %s (%v)", ids, service, err)
		}
	}
}

// Two of three addresses are dead: one refuses connections, the other takes and
// drops them, which can be counted.
func TestDeadRegistryAddressesDoNotMatter(t *testing.T) {
	_, addr := startRegistry(t, "127.0.0.1:0")
	dropping, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dropping.Close() })
	var dials atomic.Int64
	go func() {
		for {
			conn, err := dropping.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			conn.Close()
		}
	}()
	all := strings.Join([]string{closedPort(t), dropping.Addr().String(), addr}, ",")
	servers := weighted(t, all, "-heartbeat", "1s")
	r := finish(t, startClient(t, all, "-rps", "500", "-duration", arg(within(3*time.Second, 30*time.Second))))
	r.failsNone(t)
	if len(r.PerInstance) != 3 {
		t.Errorf("served by %v, want three instances", r.PerInstance)
	}
	// Four processes, each of which sticks to the node that answers.
	if got := dials.Load(); got > 8 {
		t.Errorf("the dead address was dialled %d times, want about once per process", got)
	}
	if *soak {
		compareLatency(t, addr, all)
	}
	for _, s := range servers {
		terminate(t, s.Process)
	}
}

// compareLatency fails if calls are slower with dead addresses of the registry:
// the medians of p99 in interleaved runs differ by more than 10 %.
func compareLatency(t *testing.T, alive, withDead string) {
	t.Helper()
	p99 := map[string][]float64{}
	for range 5 {
		for _, addr := range []string{alive, withDead} {
			r := finish(t, startClient(t, addr, "-rps", "500", "-duration", "10s"))
			r.failsNone(t)
			p99[addr] = append(p99[addr], r.P99)
		}
	}
	median := func(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }
	if with, without := median(p99[withDead]), median(p99[alive]); with > 1.1*without {
		t.Errorf("p99 is %.2f ms with dead addresses and %.2f ms without: %v", with, without, p99)
	}
}

// A wait-for-ready call waits for the registry and the server to come; other
// calls fail with the reason until then.
func TestClientFirst(t *testing.T) {
	t.Parallel()
	addr := closedPort(t)
	waiting := startClient(t, addr, "-wait-for-ready", "-timeout", "1m", "-rps", "5", "-duration", "1s")
	impatient := startClient(t, addr, "-rps", "20", "-duration", "0")
	said(t, impatient, "no registry node answers")
	startRegistry(t, addr)
	said(t, impatient, "service unknown to the registry")
	startServer(t, addr, "a")
	finish(t, waiting).failsNone(t)
	said(t, impatient, "  a 100.0%")
	r := interrupt(t, impatient)
	if r.Errors["Unavailable"] != r.Failed {
		t.Errorf("errors %v, want Unavailable only", r.Errors)
	}
	r.neverPicked(t)
	r.says(t, `"echo"`, addr) // the service, and who was asked for it
}

func TestWrongServiceName(t *testing.T) {
	t.Parallel()
	_, addr := startRegistry(t, "127.0.0.1:0")
	startServer(t, addr, "a")
	r := finish(t, startClient(t, addr, "-service", "ecco", "-rps", "20", "-duration", "1s"))
	if r.Failed != r.Calls || r.Errors["Unavailable"] != r.Calls {
		t.Errorf("%+v: want every call to be Unavailable", r)
	}
	r.neverPicked(t)
	r.says(t, `"ecco"`, "service unknown to the registry")
}

// An instance that is in the registry but cannot be reached is named, with what
// its address answers.
func TestUnreachableInstance(t *testing.T) {
	t.Parallel()
	_, addr := startRegistry(t, "127.0.0.1:0")
	reg, err := httpregistry.New([]string{addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	dead := closedPort(t)
	if _, err := reg.Register(t.Context(), registry.Instance{Service: "echo", ID: "gone", Addrs: []string{dead}}); err != nil {
		t.Fatal(err)
	}
	r := finish(t, startClient(t, addr, "-rps", "20", "-duration", "1s"))
	if r.Failed != r.Calls {
		t.Errorf("%+v: want every call to fail", r)
	}
	r.says(t, dead, "connection refused")
}
