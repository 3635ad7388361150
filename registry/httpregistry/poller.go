package httpregistry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/watch"
)

// impatience is the first wait of a poller that has no set yet; it grows up to
// the poll interval.
const impatience = 250 * time.Millisecond

// patience is how long those who begin to watch wait for the registry if there is
// an older good set: longer than a healthy one takes, and far less than a call may.
const patience = time.Second

// poller looks at one service again and again for all who watch it.
type poller struct {
	service *service
	topic   watch.Topic
	hints   chan struct{} // has room for one: look soon
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// watch returns the service's poller, started if there is none.
func (s *service) watch() *poller {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers++
	if s.poller == nil {
		ctx, cancel := context.WithCancel(s.client.life)
		p := &poller{service: s, hints: make(chan struct{}, 1), cancel: cancel}
		if !s.latest.at.IsZero() && time.Since(s.latest.at) < pause {
			p.topic.Publish(s.latest.snap, s.latest.err)
		}
		s.poller = p
		p.running.Go(func() { p.run(ctx) })
		p.running.Go(func() {
			if backoff.Wait(ctx, patience) == nil {
				s.stand(p)
			}
		})
	}
	return s.poller
}

// unwatch takes a watcher away; after the last one it waits for the poller to end.
func (s *service) unwatch() {
	s.mu.Lock()
	s.watchers--
	p := s.poller
	last := s.watchers == 0
	if last {
		s.poller = nil
	}
	s.mu.Unlock()
	if last {
		p.cancel()
		p.running.Wait()
	}
}

func (p *poller) refresh() {
	select {
	case p.hints <- struct{}{}:
	default:
	}
}

func (p *poller) run(ctx context.Context) {
	retry := backoff.Policy{Base: min(impatience, p.service.client.poll), Max: p.service.client.poll}
	for fails := 0; ctx.Err() == nil; {
		began := time.Now()
		got := p.service.look(ctx, true)
		wait := backoff.Jitter(p.service.client.poll, 0.1)
		if got.err == nil {
			fails = 0
		} else if len(got.snap.Instances) == 0 {
			wait = retry.Delay(fails)
			fails++
		}
		if errors.Is(got.err, registry.ErrUnavailable) && p.service.client.nodes.down() {
			p.service.client.nodes.wait(ctx)
			continue
		}
		p.sleep(ctx, began, wait)
	}
}

// sleep waits for d, or less if somebody hints that it is worth looking, but at
// least until a pause after the last look.
func (p *poller) sleep(ctx context.Context, began time.Time, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-p.hints:
		backoff.Wait(ctx, min(d, time.Until(began.Add(pause))))
	}
}
