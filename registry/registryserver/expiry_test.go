package registryserver

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// offBeat is when in a minute the tests' clients do things: never together with
// the ticks of the registry.
const offBeat = 7 * time.Second

// keepAlive calls do for each of n ids every period until the bubble's test ends.
func keepAlive(t *testing.T, n int, period time.Duration, do func(id string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		every := time.NewTicker(period)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				for i := range n {
					do(live(i))
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}

func live(i int) string { return fmt.Sprintf("live-%03d", i) }

// renewer returns what a client does that beats.
func renewer(t *testing.T, s *Server) func(id string) {
	return func(id string) { expect(t, s, wire.PathRenew, request("app", id), renewOK) }
}

// populate registers living instances, which beat every period, and dead ones,
// which do not; when it returns, all were just registered.
func populate(t *testing.T, s *Server, living, dead int, period time.Duration) {
	t.Helper()
	time.Sleep(offBeat)
	for i := range living {
		register(t, s, "app", live(i))
	}
	for i := range dead {
		register(t, s, "app", fmt.Sprintf("dead-%03d", i))
	}
	keepAlive(t, living, period, renewer(t, s))
}

// dead counts the instances that are registered and do not renew.
func dead(t *testing.T, s *Server) int {
	t.Helper()
	return strings.Count(ids(fetch(t, s, "app")), "dead-")
}

// TestHowManyMayDieAtOnce: of N instances, the node's own included, so many can
// die at once and expire by their lease, and one more blocks it for all.
func TestHowManyMayDieAtOnce(t *testing.T) {
	tests := []struct{ n, most int }{
		{2, 0}, {3, 0}, {4, 1}, {10, 1}, {11, 2}, {16, 2}, {17, 3}, {23, 3}, {34, 5}, {40, 6}, {100, 15},
	}
	for _, tt := range tests {
		for _, dying := range []int{tt.most, tt.most + 1} {
			if dying == 0 {
				continue
			}
			t.Run(fmt.Sprintf("%d of %d", dying, tt.n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newServer(t)
					populate(t, s, tt.n-1-dying, dying, 30*time.Second)
					time.Sleep(30 * time.Minute)
					want := 0
					if dying > tt.most {
						want = dying
					}
					if got := dead(t, s); got != want {
						t.Errorf("half an hour later %d dead instances are registered, want %d", got, want)
					}
				})
			})
		}
	}
}

// TestLease: what renews every 89 s stays, and what stops goes 90 to 150 s after
// its last renewal.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		populate(t, s, 20, 1, 30*time.Second) // enough to never be protected
		register(t, s, "app", "slow", `,"status":2`)
		deadSince := time.Now()
		for dead(t, s) > 0 {
			time.Sleep(time.Second)
		}
		if silent := time.Since(deadSince); silent <= 90*time.Second || silent > 151*time.Second {
			t.Errorf("expired %v after the last renewal, want 90 to 150 s", silent)
		}
		expect(t, s, wire.PathRenew, request("app", "dead-000"), unknown)
		expect(t, s, wire.PathRenew, request("app", "slow"), unknown)

		register(t, s, "app", "slow", `,"status":2`)
		for range 100 {
			time.Sleep(89 * time.Second)
			expect(t, s, wire.PathRenew, request("app", "slow"), renewOK)
		}
		if got := fetch(t, s, "app").Instances; len(got) != 21 {
			t.Errorf("%d instances are registered, want the 21 that renew", len(got))
		}
	})
}

// TestEvictionMovesTheCounterToTheTime, as every server of the API does.
func TestEvictionMovesTheCounterToTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		populate(t, s, 20, 2, 30*time.Second)
		if got := fetch(t, s, "app").LatestTimestamp; got != 22 {
			t.Errorf("the counter is %d after 22 registrations", got)
		}
		start := time.Now()
		time.Sleep(3 * time.Minute)
		// Both go at the tick three minutes after the start: the first moves the
		// counter to the time, the second by one.
		if got, want := fetch(t, s, "app").LatestTimestamp, start.Add(-offBeat).Add(2*time.Minute).UnixNano()+1; got != want {
			t.Errorf("the counter is %d, want %d", got, want)
		}
	})
}

// TestHalfTheFleetDies: the registry protects itself, keeps everybody for an
// hour, and then drops no more than its share at a tick.
func TestHalfTheFleetDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		populate(t, s, 0, 5, 30*time.Second) // and the node: N=6
		start := time.Now()
		counts := map[time.Duration]int{}
		for range 70 {
			time.Sleep(time.Minute)
			counts[time.Since(start)] = dead(t, s)
		}
		for minute, want := range map[time.Duration]int{59: 5, 60: 5, 61: 4, 62: 3, 63: 2, 64: 1, 65: 0} {
			if got := counts[minute*time.Minute]; got != want {
				t.Errorf("after %d minutes %d of 5 dead are registered, want %d", minute, got, want)
			}
		}
	})
}

// TestWhatCountsAsRenewal: a dead instance of a fleet stays when the others
// renew too rarely, or only register again and again.
func TestWhatCountsAsRenewal(t *testing.T) {
	reregister := func(t *testing.T, s *Server) func(string) {
		return func(id string) { register(t, s, "app", id) }
	}
	tests := map[string]struct {
		period time.Duration
		do     func(*testing.T, *Server) func(id string)
		want   int
	}{
		"renewing every 30 s":        {30 * time.Second, renewer, 0},
		"renewing every 60 s":        {60 * time.Second, renewer, 1},
		"registering every 30 s":     {30 * time.Second, reregister, 1},
		"renewing every 5 s (masks)": {5 * time.Second, renewer, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				populate(t, s, 0, 1, time.Hour)
				for i := range 9 {
					register(t, s, "app", live(i))
				}
				keepAlive(t, 9, tt.period, tt.do(t, s))
				time.Sleep(50 * time.Minute)
				if got := dead(t, s); got != tt.want {
					t.Errorf("%d dead instances are registered, want %d", got, tt.want)
				}
			})
		})
	}
}

// TestOneTickDropsItsShareOnly: fast beats mask the dead, and then 4, 3 and 3 of
// ten go at three ticks.
func TestOneTickDropsItsShareOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		populate(t, s, 10, 10, 5*time.Second)
		var left []int
		for range 5 {
			time.Sleep(time.Minute)
			left = append(left, dead(t, s))
		}
		if got := fmt.Sprint(left); got != "[10 6 3 0 0]" {
			t.Errorf("dead instances left after each minute: %s, want [10 6 3 0 0]", got)
		}
	})
}

// TestTheNodeItself never expires, and renews itself away from the ticks: on
// them, chance would decide which minute a renewal counts for.
func TestTheNodeItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := newServer(t)
		for range 48 {
			time.Sleep(time.Hour)
			data := fetch(t, s, wire.NodeService)
			if len(data.Instances) != 1 || data.LatestTimestamp != start.UnixNano() {
				t.Fatalf("the node is registered as %v", data)
			}
			renewed := time.Unix(0, data.Instances[0].RenewTimestamp)
			if age := time.Since(renewed); age > 30*time.Second {
				t.Fatalf("the node has renewed itself %v ago", age)
			}
			if at := renewed.Sub(start) % time.Minute; at != 15*time.Second && at != 45*time.Second {
				t.Fatalf("the node has renewed itself %v into a minute", at)
			}
		}
	})
}

// TestExpiryIsConfigurable: each setting does what its name says.
func TestExpiryIsConfigurable(t *testing.T) {
	exp := Expiry{Lease: 3 * time.Second, HardLease: 20 * time.Second, Tick: 2 * time.Second, Interval: time.Second, Threshold: 0.85}
	never := exp
	never.Threshold = 0
	tests := map[string]struct {
		exp           Expiry
		living, dying int
		before, after int // dead and still registered when the lease has passed, and the hard one
	}{
		"quick":           {exp: exp, living: 9, dying: 1, before: 0, after: 0},
		"self-protection": {exp: exp, living: 5, dying: 5, before: 5, after: 0},
		"no protection":   {exp: never, living: 5, dying: 5, before: 0, after: 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, WithExpiry(tt.exp))
				time.Sleep(100 * time.Millisecond)
				for i := range tt.living {
					register(t, s, "app", live(i))
				}
				for i := range tt.dying {
					register(t, s, "app", fmt.Sprintf("dead-%d", i))
				}
				keepAlive(t, tt.living, time.Second, renewer(t, s))
				time.Sleep(tt.exp.Lease + 2*tt.exp.Tick)
				if got := dead(t, s); got != tt.before {
					t.Errorf("after the lease %d dead are registered, want %d", got, tt.before)
				}
				time.Sleep(tt.exp.HardLease + 5*tt.exp.Tick)
				if got := dead(t, s); got != tt.after {
					t.Errorf("after the hard lease %d dead are registered, want %d", got, tt.after)
				}
			})
		})
	}
}

func TestExpiryValidate(t *testing.T) {
	with := func(change func(*Expiry)) Expiry {
		e := DefaultExpiry()
		change(&e)
		return e
	}
	tests := map[string]struct {
		exp  Expiry
		says string // "" for valid
	}{
		"default":          {DefaultExpiry(), ""},
		"no protection":    {with(func(e *Expiry) { e.Threshold = 0 }), ""},
		"zero":             {Expiry{}, "must all be positive"},
		"negative tick":    {with(func(e *Expiry) { e.Tick = -1 }), "must all be positive"},
		"lease = interval": {with(func(e *Expiry) { e.Lease = e.Interval }), "longer than the interval"},
		"short hard lease": {with(func(e *Expiry) { e.HardLease = e.Lease - 1 }), "at least the lease"},
		"threshold":        {with(func(e *Expiry) { e.Threshold = 1.01 }), "from 0 to 1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.exp.Validate()
			if (err == nil) != (tt.says == "") || (err != nil && !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("Validate: %v, want one that says %q", err, tt.says)
			}
		})
	}
}

// TestChangesAreLogged, each once, and nothing else.
func TestChangesAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		handler := slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})
		s := newServer(t, WithLogger(slog.New(handler)))
		time.Sleep(offBeat)
		register(t, s, "app", "a")
		register(t, s, "app", "a") // not new
		fetch(t, s, "app")
		register(t, s, "app", "b")
		expect(t, s, wire.PathRenew, request("app", "b"), renewOK)
		expect(t, s, wire.PathCancel, request("app", "b"), cancelOK)
		expect(t, s, wire.PathCancel, request("app", "b"), unknown)
		time.Sleep(time.Hour + 2*time.Minute)
		_ = s.Close()
		want := `level=INFO msg=registered service=app env=dev id=a
level=INFO msg=registered service=app env=dev id=b
level=INFO msg=cancelled service=app env=dev id=b
level=WARN msg="self-protection on: too few renewals, keeping silent instances" renewals=2 expected=4 instances=2
level=INFO msg=expired service=app env=dev id=a silent=1h0m53s
level=WARN msg="self-protection off" renewals=2 expected=2 instances=1
`
		if got := log.String(); got != want {
			t.Errorf("logged\n%swant\n%s", got, want)
		}
	})
}
