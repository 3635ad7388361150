// Package events is the sending side of registry.Registration.Events: it never
// waits for a reader.
package events

import (
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// capacity is how many events wait for a reader that is busy: far more than a
// registration has between two looks, and still small.
const capacity = 16

// Feed is the stream of events of one registration. Make it with New.
type Feed struct {
	mu     sync.Mutex // one sender at a time; nothing is called under it
	closed bool
	c      chan registry.Event
}

// New returns an empty Feed.
func New() *Feed { return &Feed{c: make(chan registry.Event, capacity)} }

// C is where the events arrive. It is closed by Close, after what was sent.
func (f *Feed) C() <-chan registry.Event { return f.c }

// Send adds an event. When the reader is too far behind, the oldest one is
// dropped for it. After Close it does nothing.
func (f *Feed) Send(e registry.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.closed {
		select {
		case f.c <- e:
			return
		default:
		}
		select {
		case <-f.c:
		default: // a reader was faster
		}
	}
}

// Close ends the stream. It may be called again.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.c)
	}
}
