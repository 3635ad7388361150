package watch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/rollcall-go/rollcall/registry"
)

var errDown = errors.New("down")

func set(ids ...string) registry.Snapshot {
	snap := registry.Snapshot{Service: "s", Confirmed: true}
	for _, id := range ids {
		snap.Instances = append(snap.Instances, registry.Instance{Service: "s", ID: id})
	}
	return snap
}

// next is what Next returns, or "waits".
func next(t *testing.T, w registry.Watcher) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string, 1)
	go func() {
		snap, err := w.Next(ctx)
		text := ""
		for _, inst := range snap.Instances {
			text += inst.ID
		}
		if err != nil {
			text += "!" + err.Error()
		}
		got <- text
	}()
	synctest.Wait()
	select {
	case text := <-got:
		return text
	default:
		return "waits"
	}
}

func TestNext(t *testing.T) {
	type publish struct {
		snap registry.Snapshot
		err  error
	}
	tests := []struct {
		name    string
		publish []publish
		want    []string // what a watcher that begins then is told
	}{
		{"nothing yet", nil, []string{"waits"}},
		{"a set", []publish{{set("a"), nil}}, []string{"a", "waits"}},
		{"an error", []publish{{err: errDown}}, []string{"!down", "waits"}},
		{"the latest only", []publish{{set("a"), nil}, {set("a", "b"), nil}}, []string{"ab", "waits"}},
		{"the set that stands, then why", []publish{{set("a"), errDown}}, []string{"a", "!down", "waits"}},
		{"the same after other states", []publish{{set("b"), nil}, {set("a"), errDown}}, []string{"a", "!down", "waits"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var topic Topic
				for _, p := range tt.publish {
					topic.Publish(p.snap, p.err)
				}
				w := topic.Watch(nil, nil)
				for i, want := range tt.want {
					if got := next(t, w); got != want {
						t.Errorf("Next %d = %s, want %s", i, got, want)
					}
				}
			})
		})
	}
}

// Who has been told a set is not told it again with the error that follows.
func TestAnErrorDoesNotRepeatTheSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var topic Topic
		topic.Publish(set("a"), nil)
		w := topic.Watch(nil, nil)
		next(t, w)
		topic.Publish(set("a"), errDown)
		if got := next(t, w); got != "!down" {
			t.Errorf("Next = %s, want the error", got)
		}
		topic.Publish(set("a"), nil)
		if got := next(t, w); got != "a" {
			t.Errorf("Next after the error = %s, want the set again", got)
		}
	})
}

func TestPublishSaysWhetherItIsNews(t *testing.T) {
	var topic Topic
	for i, p := range []struct {
		snap registry.Snapshot
		err  error
		news bool
	}{
		{set("a"), nil, true}, {set("a"), nil, false}, {set("b"), nil, true}, {set("b"), errDown, true},
		{set(), errDown, false}, {set(), errors.New("other"), true}, {set("b"), nil, true},
	} {
		if got := topic.Publish(p.snap, p.err); got != p.news {
			t.Errorf("Publish %d = %v, want %v", i, got, p.news)
		}
	}
}
