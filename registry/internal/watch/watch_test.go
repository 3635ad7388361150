package watch_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/watch"
)

// of is a set of one instance with this weight, which tells sets apart.
func of(weight uint32) registry.Snapshot {
	return registry.Snapshot{Service: "s", Confirmed: true, Instances: []registry.Instance{{ID: "a", Weight: weight}}}
}

var errDown = fmt.Errorf("watch_test: %w", registry.ErrUnavailable)

// next calls Next and returns what it says as one word.
func next(t *testing.T, w registry.Watcher) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	snap, err := w.Next(ctx)
	switch {
	case errors.Is(err, registry.ErrClosed):
		return "closed"
	case errors.Is(err, registry.ErrUnavailable):
		return "down"
	case err != nil && err == ctx.Err():
		return "nothing"
	case err != nil:
		return err.Error()
	}
	text := fmt.Sprint(snap.Instances[0].Weight)
	if !snap.Confirmed {
		text += " unconfirmed: " + snap.Reason
	}
	return text
}

// want checks what Next says in turn.
func want(t *testing.T, w registry.Watcher, words ...string) {
	t.Helper()
	for _, word := range words {
		if got := next(t, w); got != word {
			t.Errorf("Next says %q, want %q", got, word)
		}
	}
}

func TestNextReturnsTheLatest(t *testing.T) {
	unconfirmed := of(3)
	unconfirmed.Confirmed, unconfirmed.Reason = false, "smaller"
	for _, test := range []struct {
		name    string
		before  func(*watch.Topic) // what happens before the watcher looks
		first   string
		between func(*watch.Topic) // and between two looks
		then    string
	}{
		{"nothing yet", func(*watch.Topic) {}, "nothing", func(topic *watch.Topic) { topic.Publish(of(1), nil) }, "1"},
		{"a set there is", func(topic *watch.Topic) { topic.Publish(of(1), nil) }, "1", func(*watch.Topic) {}, "nothing"},
		{"an error there is", func(topic *watch.Topic) { topic.Publish(registry.Snapshot{}, errDown) }, "down", func(*watch.Topic) {}, "nothing"},
		{"a backlog", func(topic *watch.Topic) { topic.Publish(of(1), nil); topic.Publish(of(2), nil) }, "2",
			func(topic *watch.Topic) { topic.Publish(of(3), nil); topic.Publish(of(4), nil) }, "4"},
		{"the same again", func(topic *watch.Topic) { topic.Publish(of(1), nil) }, "1", func(topic *watch.Topic) { topic.Publish(of(1), nil) }, "nothing"},
		{"the same from elsewhere", func(topic *watch.Topic) { topic.Publish(of(1), nil) }, "1",
			func(topic *watch.Topic) { other := of(1); other.Source = "node-2"; topic.Publish(other, nil) }, "nothing"},
		{"there and back", func(topic *watch.Topic) { topic.Publish(of(1), nil) }, "1",
			func(topic *watch.Topic) { topic.Publish(of(2), nil); topic.Publish(of(1), nil) }, "nothing"},
		{"in doubt", func(topic *watch.Topic) { topic.Publish(of(3), nil) }, "3",
			func(topic *watch.Topic) { topic.Publish(unconfirmed, nil) }, "3 unconfirmed: smaller"},
		{"an error", func(topic *watch.Topic) { topic.Publish(of(1), nil) }, "1",
			func(topic *watch.Topic) { topic.Publish(registry.Snapshot{}, errDown) }, "down"},
		{"an error, and the set that stands", func(topic *watch.Topic) { topic.Publish(of(1), nil) }, "1",
			func(topic *watch.Topic) { topic.Publish(of(1), errDown) }, "down"},
		{"the end of an error", func(topic *watch.Topic) { topic.Publish(registry.Snapshot{}, errDown) }, "down",
			func(topic *watch.Topic) { topic.Publish(of(1), nil) }, "1"},
		{"an error that came and went", func(topic *watch.Topic) { topic.Publish(of(1), nil) }, "1",
			func(topic *watch.Topic) { topic.Publish(registry.Snapshot{}, errDown); topic.Publish(of(1), nil) }, "nothing"},
		{"another reason", func(topic *watch.Topic) { topic.Publish(registry.Snapshot{}, errDown) }, "down",
			func(topic *watch.Topic) { topic.Publish(registry.Snapshot{}, errors.New("gone")) }, "gone"},
		{"the same reason", func(topic *watch.Topic) { topic.Publish(registry.Snapshot{}, errDown) }, "down",
			func(topic *watch.Topic) {
				topic.Publish(registry.Snapshot{}, fmt.Errorf("watch_test: %w", registry.ErrUnavailable))
			}, "nothing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var topic watch.Topic
				w := topic.Watch(nil, nil)
				test.before(&topic)
				want(t, w, test.first)
				test.between(&topic)
				want(t, w, test.then, "nothing")
			})
		})
	}
}

// A set is told again after an error that was told, so that a consumer learns
// that it is over.
func TestSetIsToldAgainAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var topic watch.Topic
		w := topic.Watch(nil, nil)
		topic.Publish(of(1), nil)
		want(t, w, "1")
		topic.Publish(registry.Snapshot{}, errDown)
		want(t, w, "down")
		topic.Publish(of(1), nil)
		want(t, w, "1", "nothing")
	})
}

// Who starts to watch while a set stands that cannot be confirmed gets both.
func TestSetThatStandsComesBeforeItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var topic watch.Topic
		topic.Publish(of(1), errDown)
		want(t, topic.Watch(nil, nil), "1", "down", "nothing")

		old := topic.Watch(nil, nil)
		want(t, old, "1")
		topic.Publish(of(1), nil) // over before the error was told
		want(t, old, "1", "nothing")
	})
}

func TestPublishSaysWhatIsNew(t *testing.T) {
	var topic watch.Topic
	if _, _, ok := topic.Latest(); ok {
		t.Error("a new topic has a state")
	}
	for i, step := range []struct {
		snap registry.Snapshot
		err  error
		new  bool
	}{
		{of(1), nil, true}, {of(1), nil, false}, {of(2), nil, true},
		{registry.Snapshot{}, errDown, true}, {registry.Snapshot{}, errDown, false}, {of(2), nil, true},
	} {
		if got := topic.Publish(step.snap, step.err); got != step.new {
			t.Errorf("step %d: new is %v, want %v", i, got, step.new)
		}
		if snap, err, ok := topic.Latest(); !ok || !snap.Equal(step.snap) || err != step.err {
			t.Errorf("step %d: the latest is %v, %v, %v", i, snap, err, ok)
		}
	}
}

func TestCloseWakesNextAndReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var topic watch.Topic
		released := 0
		w, other := topic.Watch(nil, func() { released++ }), topic.Watch(nil, nil)
		woken := make(chan string)
		go func() { woken <- next(t, w) }()
		synctest.Wait()
		for range 2 {
			if err := w.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if got := <-woken; got != "closed" {
			t.Errorf("Next while Close is called says %q", got)
		}
		topic.Publish(of(1), nil)
		want(t, w, "closed", "closed")
		want(t, other, "1")
		if released != 1 {
			t.Errorf("released %d times, want once", released)
		}
	})
}

func TestRefreshIsPassedOn(t *testing.T) {
	var topic watch.Topic
	asked := 0
	topic.Watch(func() { asked++ }, nil).Refresh()
	topic.Watch(nil, nil).Refresh() // of no use, and harmless
	if asked != 1 {
		t.Errorf("refreshed %d times, want once", asked)
	}
}

// A context that has ended costs no news.
func TestNextWithAnEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var topic watch.Topic
		w := topic.Watch(nil, nil)
		topic.Publish(of(1), nil)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := w.Next(ended); err != context.Canceled {
			t.Errorf("Next: %v, want context.Canceled as it is", err)
		}
		want(t, w, "1", "nothing")
	})
}

// However publishers and watchers interleave, every watcher sees sets in order
// and the last one.
func TestEveryWatcherSeesTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const last = 1000
		var topic watch.Topic
		var watchers sync.WaitGroup
		for range 4 {
			w := topic.Watch(nil, nil)
			watchers.Go(func() {
				for seen := uint32(0); seen < last; {
					snap, err := w.Next(t.Context())
					if err != nil || snap.Instances[0].Weight <= seen {
						t.Errorf("after set %d: %v, %v", seen, snap.Instances, err)
						return
					}
					seen = snap.Instances[0].Weight
				}
			})
		}
		for n := range uint32(last) {
			topic.Publish(of(n+1), nil)
		}
		watchers.Wait()
	})
}
