package test

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRollingRestartLosesNoCall(t *testing.T) {
	_, registry := startRegistry(t, "127.0.0.1:0")
	servers := weighted(t, registry)
	client := startClient(t, registry, "-fail-mode", "failover", "-method", "get", "-rps", arg(within(1000, 2000)), "-duration", "0")
	said(t, client, "  a ")
	for range within(1, 5) {
		for id := range servers {
			terminate(t, servers[id].Process)
			servers[id] = startServer(t, registry, id)
		}
	}
	interrupt(t, client).failsNone(t)
}

func TestKilledServerCostsNoIdempotentCall(t *testing.T) {
	_, registry := startRegistry(t, "127.0.0.1:0")
	servers := weighted(t, registry)
	client := startClient(t, registry, "-fail-mode", "failover", "-method", "get", "-rps", arg(within(1000, 2000)), "-duration", arg(within(4*time.Second, 30*time.Second)))
	said(t, client, "  a ")
	servers["a"].Kill()
	r := finish(t, client)
	r.failsNone(t)
	if r.PerInstance["a"] == 0 || r.PerInstance["b"] == 0 {
		t.Errorf("served by %v: the kill fell outside the load", r.PerInstance)
	}
}

// What each mode does is counted where it arrives.
func TestFailModes(t *testing.T) {
	for _, tc := range []struct {
		mode  string
		check func(t *testing.T, r report, bad, good int64)
	}{
		{"failfast", func(t *testing.T, r report, bad, good int64) {
			if r.Attempts != r.Calls || bad != r.Failed || good != r.OK {
				t.Errorf("%+v with %d executions at the bad instance and %d at the good ones: want one attempt a call", r, bad, good)
			}
		}},
		{"failretry", func(t *testing.T, r report, bad, good int64) {
			if bad != 3*r.Failed || good != r.OK || r.Attempts != r.OK+3*r.Failed {
				t.Errorf("%+v with %d executions at the bad instance and %d at the good ones: want all attempts of a call at one instance", r, bad, good)
			}
		}},
		{"failover", func(t *testing.T, r report, bad, good int64) {
			if r.Failed != 0 || good != r.Calls || r.Attempts != r.Calls+bad {
				t.Errorf("%+v with %d executions at the bad instance and %d at the good ones: want a second attempt elsewhere", r, bad, good)
			}
		}},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			t.Parallel()
			_, registry := startRegistry(t, "127.0.0.1:0")
			bad := startServer(t, registry, "bad", "-fail", "Unavailable")
			good := []server{startServer(t, registry, "good1"), startServer(t, registry, "good2")}
			r := finish(t, startClient(t, registry, "-method", "get", "-fail-mode", tc.mode, "-attempts", "3",
				"-policy", "round_robin", "-rps", "50", "-duration", "2s"))
			var atGood int64
			for _, s := range append(good, bad) {
				terminate(t, s.Process)
			}
			for _, s := range good {
				atGood += s.executed(t)["get"]
			}
			atBad := bad.executed(t)["get"]
			if atBad == 0 {
				t.Error("no call reached the bad instance")
			}
			tc.check(t, r, atBad, atGood)
		})
	}
}

// When all fail, each attempt of a call has gone to another instance. The rate
// is low because the budget allows less than two more attempts per call.
func TestFailoverTriesEachInstanceOnce(t *testing.T) {
	t.Parallel()
	_, registry := startRegistry(t, "127.0.0.1:0")
	var servers []server
	for _, id := range []string{"a", "b", "c"} {
		servers = append(servers, startServer(t, registry, id, "-fail", "Unavailable"))
	}
	r := finish(t, startClient(t, registry, "-method", "get", "-fail-mode", "failover", "-attempts", "3", "-warm-up", "500ms", "-rps", "4", "-duration", "3s"))
	if r.Failed != r.Calls || r.Attempts != 3*r.Calls {
		t.Errorf("%+v: want three attempts for every call", r)
	}
	for _, s := range servers {
		terminate(t, s.Process)
		if got := s.executed(t)["get"]; got != r.Calls {
			t.Errorf("%s executed %d of %d calls, want each once", s.Name(), got, r.Calls)
		}
	}
}

// A payment whose server dies in the middle may have been made: it is not made
// again, and the caller is told.
func TestKilledInsideTheHandlerIsNotRepeated(t *testing.T) {
	t.Parallel()
	_, registry := startRegistry(t, "127.0.0.1:0")
	servers := map[string]server{}
	for _, id := range []string{"a", "b", "c"} {
		servers[id] = startServer(t, registry, id, "-latency", "1m", "-grace-timeout", "1s")
	}
	client := startClient(t, registry, "-method", "add", "-fail-mode", "failover", "-rps", "1", "-duration", "1s", "-timeout", "30s")
	var victim string
	until(t, "the call arrives", func() bool {
		for id, s := range servers {
			if s.executed(t)["add"] > 0 {
				victim = id
			}
		}
		return victim != ""
	})
	servers[victim].Kill()
	r := finish(t, client)
	if r.Calls != 1 || r.Failed != 1 || r.Attempts != 1 || r.Classes["sent_no_answer"] != 1 {
		t.Errorf("%+v: want one attempt that was sent and not answered", r)
	}
	r.says(t, "may have executed")
	for id, s := range servers {
		if got := s.executed(t)["add"]; (id == victim) != (got == 1) {
			t.Errorf("%s executed the call %d times; %s was killed", id, got, victim)
		}
	}
}

// A server that hands on the refusal of its own downstream has executed the
// call: what it says about closing is not about itself.
func TestRelayedRefusalIsNoProof(t *testing.T) {
	t.Parallel()
	_, registry := startRegistry(t, "127.0.0.1:0")
	servers := []server{startServer(t, registry, "a", "-fail", "SERVER_CLOSING"), startServer(t, registry, "b", "-fail", "SERVER_CLOSING")}
	r := finish(t, startClient(t, registry, "-method", "add", "-fail-mode", "failover", "-rps", "20", "-duration", "1s"))
	if r.Attempts != r.Calls || r.Classes["answered"] != r.Calls || r.Classes["refused"] != 0 {
		t.Errorf("%+v: want one answered attempt a call", r)
	}
	var executed int64
	for _, s := range servers {
		terminate(t, s.Process)
		executed += s.executed(t)["add"]
	}
	if executed != r.Calls {
		t.Errorf("%d calls were executed %d times", r.Calls, executed)
	}
}

// A server that is told to stop finishes the calls it has, also slow ones.
func TestSigtermFinishesCallsInHand(t *testing.T) {
	t.Parallel()
	_, registry := startRegistry(t, "127.0.0.1:0")
	s := startServer(t, registry, "a", "-latency", "3s")
	client := startClient(t, registry, "-method", "add", "-fail-mode", "failfast", "-rps", "200", "-duration", "500ms", "-timeout", arg(patience))
	until(t, "all calls arrive", func() bool { return s.executed(t)["add"] == 100 })
	terminate(t, s.Process)
	r := finish(t, client)
	r.failsNone(t)
	if r.OK != 100 {
		t.Errorf("%d calls, want 100", r.OK)
	}
}

// Handlers that never return keep a server until the bound and no longer. They
// cost their own calls and no other.
func TestSigtermEndsHandlersThatHang(t *testing.T) {
	t.Parallel()
	_, registry := startRegistry(t, "127.0.0.1:0")
	bad := startServer(t, registry, "bad", "-fail", "HANG", "-grace-timeout", "2s")
	hanging := startClient(t, registry, "-method", "add", "-fail-mode", "failfast", "-rps", "20", "-duration", "500ms", "-timeout", "2m")
	until(t, "all calls arrive", func() bool { return bad.executed(t)["add"] == 10 })
	startServer(t, registry, "good", "-zone", "good")
	others := startClient(t, registry, "-method", "get", "-fail-mode", "failfast", "-target", "discovery:///echo?zone=good", "-rps", "20", "-duration", "0")
	said(t, others, "  good ")
	bad.Signal(syscall.SIGTERM)
	if code := ended(t, bad.Process, patience); code != 1 {
		t.Errorf("exited with %d, want 1: calls were cut off", code)
	}
	if out := bad.Output(); !strings.Contains(out, "10 of them") {
		t.Errorf("it does not say how many calls were cut off: %s", tail(out))
	}
	if r := finish(t, hanging); r.Failed != 10 || r.Classes["sent_no_answer"] != 10 {
		t.Errorf("%+v: want ten calls that were sent and not answered", r)
	}
	interrupt(t, others).failsNone(t)
}

func TestPanicCostsOneCall(t *testing.T) {
	t.Parallel()
	_, registry := startRegistry(t, "127.0.0.1:0")
	s := startServer(t, registry, "a", "-fail", "PANIC:0.5")
	r := finish(t, startClient(t, registry, "-method", "get", "-rps", "50", "-duration", "1s"))
	if r.OK == 0 || r.Errors["Internal"] != r.Failed || r.Failed == 0 {
		t.Errorf("%+v: want some calls to fail as Internal and the others not at all", r)
	}
	terminate(t, s.Process)
}

// A call to a slow instance is answered by another one.
func TestHedgedCallsAreFast(t *testing.T) {
	t.Parallel()
	_, registry := startRegistry(t, "127.0.0.1:0")
	slow := startServer(t, registry, "slow", "-latency", "2s")
	startServer(t, registry, "quick")
	r := finish(t, startClient(t, registry, "-method", "get", "-hedge", "100ms", "-timeout", "1s", "-policy", "round_robin", "-warm-up", "500ms", "-rps", "10", "-duration", "3s"))
	r.failsNone(t)
	terminate(t, slow.Process)
	if hedged := r.Attempts - r.Calls; hedged == 0 || r.PerInstance["quick"] != r.Calls {
		t.Errorf("%+v: want some calls made twice, and all answered by the quick instance", r)
	}
}
