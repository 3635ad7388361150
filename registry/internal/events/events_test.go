package events

import (
	"errors"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

func drain(f *Feed) (kinds []registry.EventKind) {
	for e := range f.C() {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func TestSendKeepsTheLatestWhenNobodyReads(t *testing.T) {
	f := New()
	for range 3 * capacity {
		f.Send(registry.Event{Kind: registry.RenewFailed, Err: errors.New("down")})
	}
	f.Send(registry.Event{Kind: registry.Renewed})
	f.Close()
	kinds := drain(f)
	if len(kinds) != capacity {
		t.Errorf("%d events are left, want %d", len(kinds), capacity)
	}
	if last := kinds[len(kinds)-1]; last != registry.Renewed {
		t.Errorf("the last event is %v, want the one sent last", last)
	}
}

func TestCloseDeliversWhatWasSent(t *testing.T) {
	f := New()
	f.Send(registry.Event{Kind: registry.Lost})
	f.Close()
	f.Close()
	f.Send(registry.Event{Kind: registry.Renewed}) // too late
	if kinds := drain(f); len(kinds) != 1 || kinds[0] != registry.Lost {
		t.Errorf("events after Close: %v, want [lost]", kinds)
	}
}

func TestSendRacesWithReaderAndClose(t *testing.T) {
	f := New()
	var senders, reader sync.WaitGroup
	reader.Go(func() { drain(f) })
	for range 4 {
		senders.Go(func() {
			for range 1000 {
				f.Send(registry.Event{Kind: registry.Lost})
			}
		})
	}
	senders.Go(f.Close)
	senders.Wait()
	reader.Wait()
}
