package resolver

import (
	"testing"
	"testing/synctest"
	"time"

	gresolver "google.golang.org/grpc/resolver"
)

// Close returns at once, whatever is going on, and leaves nothing behind: the
// bubble would fail. Nothing is said to the channel afterwards.
func TestClose(t *testing.T) {
	for name, prepare := range map[string]func(*source){
		"while Next blocks before the first set": func(*source) {},
		"while Next blocks after it":             func(s *source) { s.shows(instance("a")) },
		"in the pause after Watch failed":        func(s *source) { s.down(errDown) },
		"in the pause after Next failed":         func(s *source) { s.fails(errDown) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := newSource()
				prepare(src)
				cc, r := build(t, src, "discovery:///greeter")
				r.ResolveNow(gresolver.ResolveNowOptions{})
				r.ResolveNow(gresolver.ResolveNowOptions{})
				cc.news()
				begin := time.Now()
				r.Close()
				if d := time.Since(begin); d > 0 {
					t.Errorf("Close took %v", d)
				}
				src.down(nil)
				src.shows(instance("b"))
				r.ResolveNow(gresolver.ResolveNowOptions{})
				time.Sleep(time.Hour)
				expect(t, cc, "after Close", nil...)
				if n := src.used().open; n != 0 {
					t.Errorf("%d watchers were not closed", n)
				}
				r.Close()
			})
		})
	}
}

// Close waits for what is still running.
func TestCloseJoins(t *testing.T) {
	for name, src := range map[string]*source{
		"Next":    {slowNext: 2 * time.Second},
		"Refresh": {slowRefresh: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src.changed = make(chan struct{})
				_, r := build(t, src, "discovery:///greeter")
				r.ResolveNow(gresolver.ResolveNowOptions{})
				synctest.Wait()
				begin := time.Now()
				r.Close()
				took, used := time.Since(begin), src.used()
				if took != 2*time.Second || used.open != 0 || used.misused {
					t.Errorf("Close took %v, want 2s; %d watchers left, misused: %v", took, used.open, used.misused)
				}
			})
		})
	}
}

// Close races everything that can happen at the same moment (for -race).
func TestCloseDuringEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 200 {
			src := newSource()
			cc, r := build(t, src, "discovery:///greeter")
			go src.shows(instance("a"))
			go src.fails(errUnknown)
			go r.ResolveNow(gresolver.ResolveNowOptions{})
			go r.Close()
			r.Close()
			cc.news()
			if n := src.used().open; n != 0 {
				t.Fatalf("%d watchers were not closed", n)
			}
		}
	})
}
