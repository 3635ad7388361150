package httpregistry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// However many watch a service, it is polled once, every 5 s give or take 10 %.
func TestWatchersShareAPoller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		node.put(instance("s", 1))
		c := n.client(three[:1])
		var watchers []*watching
		for range 20 {
			watchers = append(watchers, watchIt(t, c, "s"))
		}
		pass(time.Hour)
		polls := node.asked(wire.PathFetch, time.Time{})
		if len(polls) < 700 || len(polls) > 740 {
			t.Errorf("%d polls in an hour, want 720 or so", len(polls))
		}
		var gaps []time.Duration
		for i := 1; i < len(polls); i++ {
			gap := polls[i].at.Sub(polls[i-1].at)
			if gap < 4500*time.Millisecond || gap > 5500*time.Millisecond {
				t.Errorf("%v between two polls", gap)
			}
			gaps = append(gaps, gap)
		}
		slices.Sort(gaps)
		if len(slices.Compact(gaps)) < 500 {
			t.Error("the polls have no jitter")
		}
		for _, w := range watchers {
			if got, _ := w.last(); got != "i1" || w.told() != 1 {
				t.Errorf("told %q", w.all())
			}
		}
		for i, w := range watchers {
			since := time.Now()
			w.Close()
			pass(time.Minute)
			if got := len(node.asked(wire.PathFetch, since)); (got > 0) != (i < len(watchers)-1) {
				t.Errorf("%d polls after %d of %d watchers are closed", got, i+1, len(watchers))
			}
		}
		again := watchIt(t, c, "s")
		pass(time.Second)
		if got, err := again.last(); got != "i1" {
			t.Errorf("a watcher after the last one was closed: %s, %v", got, err)
		}
	})
}

// The order of the answer and the times in it are no news; content is.
func TestWatchComparesContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		w := watchIt(t, n.client(three[:1]), "s")
		var weight atomic.Int32
		weight.Store(1)
		node.answer(wire.PathFetch, func(rw http.ResponseWriter, r *http.Request) {
			var text strings.Builder
			for i, k := range rand.Perm(10) {
				if i > 0 {
					text.WriteString(",")
				}
				fmt.Fprintf(&text, `{"env":"dev","appid":"s","hostname":"i%d","addrs":["grpc://h%d:1?weight=%d"],"status":1,"reg_timestamp":%d,"renew_timestamp":%d,"up_timestamp":5}`,
					k, k, weight.Load(), time.Now().UnixNano(), time.Now().UnixNano())
			}
			says200(fmt.Sprintf(`{"code":200,"data":{"latest_timestamp":%d,"instances":[%s]}}`, rand.Int64(), text.String()))(rw, r)
		})
		pass(10 * time.Minute)
		if got := w.told(); got != 1 {
			t.Errorf("told %d times, want once", got)
		}
		weight.Store(2)
		pass(6 * time.Second)
		if got := w.told(); got != 2 {
			t.Errorf("told %d times after a change, want twice", got)
		}
	})
}

// Until there is a set, the registry is asked faster, but not for ever.
func TestWatchIsImpatientAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		w := watchIt(t, n.client(three[:1]), "s")
		pass(2 * time.Second)
		if got := len(node.asked(wire.PathFetch, time.Time{})); got < 4 || got > 7 {
			t.Errorf("asked %d times in the first 2 s, want 4 to 7", got)
		}
		pass(time.Hour)
		if got := len(node.asked(wire.PathFetch, time.Now().Add(-time.Minute))); got < 11 || got > 25 {
			t.Errorf("asked %d times in a minute after an hour, want once in 2.5 to 5 s", got)
		}
		if got := w.told(); got != 1 {
			t.Errorf("told %d times that the service is unknown", got)
		}
		node.put(instance("s", 1))
		pass(5 * time.Second)
		if got, err := w.last(); got != "i1" {
			t.Errorf("5 s after the first registration: %s, %v", got, err)
		}
	})
}

// Refresh asks at once, but at most once a second.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		node.put(instance("s", 1))
		c := n.client(three[:1])
		w := watchIt(t, c, "s")
		pass(2 * time.Second)
		node.put(instance("s", 2))
		w.Refresh()
		pass(time.Millisecond)
		if got, _ := w.last(); got != "i1 i2" {
			t.Errorf("after Refresh: %s", got)
		}
		since := time.Now()
		for range 10_000 {
			w.Refresh()
			time.Sleep(time.Millisecond)
		}
		if got := len(node.asked(wire.PathFetch, since)); got < 9 || got > 11 {
			t.Errorf("asked %d times in 10 s of refreshing, want once a second", got)
		}
	})
}

// What this process has written itself is seen at once.
func TestOwnWritesAreSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.registry(three[0])
		c := n.client(three[:1])
		w := watchIt(t, c, "s")
		check := func(want string) {
			t.Helper()
			snap, err := c.Fetch(t.Context(), "s")
			got := ids(snap)
			if err != nil {
				got = kind(err)
			}
			if got != want {
				t.Errorf("Fetch = %s, %v; want %s", got, err, want)
			}
			pass(1100 * time.Millisecond)
			if got, err := w.last(); got != want && (err == nil || kind(err) != want) {
				t.Errorf("a second later the watcher has %s, %v; want %s", got, err, want)
			}
		}
		check("service unknown to the registry")
		r := mustRegister(t, c, instance("s", 1))
		check("i1")
		second := mustRegister(t, c, instance("s", 2))
		check("i1 i2")
		inst := instance("s", 1)
		inst.Weight = 5
		if err := r.Update(t.Context(), inst); err != nil {
			t.Fatal(err)
		}
		if snap, _ := c.Fetch(t.Context(), "s"); snap.Instances[0].Weight != 5 {
			t.Errorf("after Update: %+v", snap.Instances)
		}
		second.Deregister(t.Context())
		check("i1")
	})
}

// An answer from before an own write does not count after it.
func TestAnAnswerOvertakenByAnOwnWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		node.put(instance("s", 1))
		c := n.client(three[:1])
		c.Fetch(t.Context(), "other") // so that the node is known to be good
		node.answer(wire.PathFetch, func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			node.Server.ServeHTTP(answer, r)
			time.Sleep(time.Second)
			w.Write(answer.Body.Bytes())
		})
		watchIt(t, c, "s")
		pass(500 * time.Millisecond)
		mustRegister(t, c, instance("s", 2))
		pass(510 * time.Millisecond)
		if snap, err := c.Fetch(t.Context(), "s"); ids(snap) != "i1 i2" {
			t.Errorf("Fetch = %s, %v", ids(snap), err)
		}
		node.answer(wire.PathFetch, nil)
		pass(5 * time.Second) // whoever is being answered slowly
	})
}

// Fetch without a watch asks at most once a second, and only one of many callers.
func TestFetchIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		node.put(instance("s", 1))
		c := n.client(three[:1])
		for range 100 {
			for range 10 {
				go c.Fetch(t.Context(), "s")
			}
			pass(100 * time.Millisecond)
		}
		if got := len(node.asked(wire.PathFetch, time.Time{})); got != 10 {
			t.Errorf("asked %d times for 1,000 fetches in 10 s, want 10", got)
		}
		watchIt(t, c, "s")
		since := time.Now()
		for range 1000 {
			c.Fetch(t.Context(), "s")
			pass(100 * time.Millisecond)
		}
		if got := len(node.asked(wire.PathFetch, since)); got > 25 {
			t.Errorf("asked %d times in 100 s with a watcher, want only its polls", got)
		}
	})
}

// That nobody serves a name is remembered like anything else, but only for a few.
func TestUnknownServicesAreCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		c := n.client(three[:1])
		for range 10 {
			for range 100 {
				if _, err := c.Fetch(t.Context(), "nobody"); !errors.Is(err, registry.ErrUnknownService) {
					t.Fatal(err)
				}
			}
			pass(pause)
		}
		if got := len(node.asked(wire.PathFetch, time.Time{})); got != 10 {
			t.Errorf("asked %d times for 1,000 fetches in 10 s, want 10", got)
		}
		mustRegister(t, c, instance("s", 1))
		c.Fetch(t.Context(), "s")
		for i := range 1000 {
			c.Fetch(t.Context(), fmt.Sprint("typo", i))
		}
		if got := len(c.services); got != 1+maxUnknown || c.services["s"] == nil {
			t.Errorf("%d services are remembered, want the one that exists and the last %d", got, maxUnknown)
		}
	})
}

// Who begins to watch during an outage gets the set that stands, and then why.
func TestAWatchThatBeginsInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.registry(three[0]).put(instance("s", 1))
		c := n.client(three[:1])
		watchIt(t, c, "s")
		pass(10 * time.Second)
		n.kill(three[0])
		pass(time.Minute)
		w := watchIt(t, c, "s")
		pass(time.Second)
		if got := w.all(); !slices.Equal(got, []string{"i1?", "no registry node answers"}) {
			t.Errorf("told %q, want the last good set and then the reason", got)
		}
	})
}

func TestClosedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.hang(three[0])
		c := n.client(three[:1])
		w, err := c.Watch(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		fetched := make(chan error, 1)
		go func() {
			_, err := c.Fetch(context.Background(), "s")
			fetched <- err
		}()
		pass(time.Second)
		began := time.Now()
		c.Close()
		if took := time.Since(began); took > 0 {
			t.Errorf("Close took %v with nothing registered", took)
		}
		if err := <-fetched; !errors.Is(err, registry.ErrClosed) {
			t.Errorf("Fetch during Close = %v", err)
		}
		if _, err := w.Next(t.Context()); !errors.Is(err, registry.ErrClosed) {
			t.Errorf("Next after Close = %v", err)
		}
		w.Refresh()
		w.Close()
	})
}

// A node that has just started empty is not the last word on a service that this
// client has never seen.
func TestTheFirst404IsCheckedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.registry(three[0])
		n.registry(three[1]).put(instance("s", 1))
		n.hang(three[2])
		c := n.client(three)
		c.nodes.start = 0
		if snap, err := c.Fetch(t.Context(), "s"); ids(snap) != "i1" || snap.Source != three[1] {
			t.Errorf("Fetch = %s from %s, %v", ids(snap), snap.Source, err)
		}
		_, err := c.Fetch(t.Context(), "other")
		if want := `httpregistry: fetch "other" (env "dev"): service unknown to the registry: 10.0.0.1:6666: code 404, 10.0.0.2:6666: code 404`; err == nil || err.Error() != want {
			t.Errorf("Fetch = %v\nwant    %s", err, want)
		}
		for i := range 20 {
			pass(time.Second)
			began := time.Now()
			c.Fetch(t.Context(), fmt.Sprint("typo", i))
			if took := time.Since(began); took > 0 {
				t.Errorf("a node that hangs has cost %v more", took)
			}
		}
	})
}
