//go:build unix

package test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

// frozenClients call servers that hang for a while, within deadlines of a second.
var frozenClients = []struct {
	name, policy string
	call         func(context.Context, echov1.EchoClient) error
	opts         []failmode.Option
	lost         int // at most, per freeze
}{
	{"round_robin", "round_robin", add, nil, 50},
	{"weighted_round_robin", "weighted_round_robin", add, nil, 50},
	{"p2c", "p2c", add, nil, 10},
	{"round_robin, attempts of 300 ms", "round_robin", get, []failmode.Option{failmode.WithPerAttemptTimeout(300 * time.Millisecond)}, 0},
	{"p2c, attempts of 300 ms", "p2c", get, []failmode.Option{failmode.WithPerAttemptTimeout(300 * time.Millisecond)}, 0},
	{"round_robin, hedged", "round_robin", get, []failmode.Option{failmode.WithHedging(200 * time.Millisecond)}, 0},
}

// A process that is frozen answers nothing and closes nothing. It is soon avoided,
// and soon called again when it goes on.
func TestFrozenServersCostFewCalls(t *testing.T) {
	for _, client := range frozenClients {
		t.Run(client.name, func(t *testing.T) {
			besideOthers(t)
			_, registry := startRegistry(t, "127.0.0.1:0")
			servers := map[string]server{}
			for _, id := range []string{"a", "b", "c", "d"} {
				servers[id] = startServer(t, registry, id, "-latency", "5ms")
			}
			o := observe(t, registry, len(servers), client.policy, failmode.Failover, client.opts...)
			o.start(within(300., 2000.), time.Second, client.call)
			lives(t, 2*time.Second)
			type freeze struct {
				server    string
				began, on time.Time
			}
			var freezes []freeze
			for _, id := range []string{"a", "b", "c", "d"}[:within(1, 4)] {
				f := freeze{server: id, began: time.Now()}
				servers[id].Signal(syscall.SIGSTOP)
				lives(t, 3*time.Second)
				servers[id].Signal(syscall.SIGCONT)
				f.on = time.Now()
				freezes = append(freezes, f)
				lives(t, within(5*time.Second, 4*time.Second))
			}
			lives(t, within(0, 2*time.Second))
			o.end()

			t.Log(o.lost(), "of", o.calls, "calls lost")
			if lost := o.lost(); lost > client.lost*len(freezes) {
				t.Errorf("%d calls lost in %d freezes, want at most %d each: %v", lost, len(freezes), client.lost, o)
			}
			for _, f := range freezes {
				late, back := 0, time.Duration(-1)
				for _, a := range o.at(f.server) {
					if a.began.After(f.began.Add(time.Second)) && a.began.Before(f.on) {
						late++
					}
					if back < 0 && a.err == nil && a.began.After(f.on) {
						back = a.began.Sub(f.on)
					}
				}
				t.Logf("%s was called %d times when it had been frozen for a second, and again %v after it went on", f.server, late, back)
				if late > 10 {
					t.Errorf("%s was called %d times when it had been frozen for a second", f.server, late)
				}
				if back < 0 || back > 5*time.Second {
					t.Errorf("%s was called again %v after it went on, want within 5 s", f.server, back)
				}
			}
		})
	}
}

// Streams that wait for a message are not calls that wait for an answer.
func TestIdleStreamsAreNoStall(t *testing.T) {
	_, registry := startRegistry(t, "127.0.0.1:0")
	for _, id := range []string{"a", "b", "c", "d"} {
		startServer(t, registry, id)
	}
	o := observe(t, registry, 4, "round_robin", failmode.Failfast)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 1000 {
		stream, err := o.client.Chat(ctx)
		if err == nil {
			err = stream.Send(&echov1.ChatRequest{Message: "hello"})
		}
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	o.start(100, patience, add)
	lives(t, within(5*time.Second, 30*time.Second))
	o.end()
	if o.lost() > 0 {
		t.Error(o)
	}
	for id, served := range o.servedSince(began) {
		if share := float64(served) / float64(o.calls); share < 0.24 || share > 0.26 {
			t.Errorf("%s has served %.1f %%, want a quarter", id, 100*share)
		}
	}
}
