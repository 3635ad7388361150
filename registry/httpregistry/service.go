package httpregistry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

const (
	// pause is the shortest time between two looks at a service that somebody
	// asks for: enough for a person and for whoever has just lost a connection.
	pause = time.Second
	// others is how many more nodes are asked about a doubtful answer.
	others = 2
)

// service is what the Client knows of one service.
type service struct {
	client *Client
	name   string
	users  int // guarded by client.mu

	turn   chan struct{} // holds a token while somebody asks the registry; guards the next four
	belief belief
	prefer *node           // knew more than the current one
	asked  time.Time       // when the registry was last asked, with whatever success
	told   map[string]bool // what has been logged of the entries, so as to do it once

	mu       sync.Mutex // guards all below; nothing is called under it but the topic
	latest   outcome
	expired  time.Time // what was asked for until then does not count
	watchers int
	poller   *poller // while there are watchers
}

// outcome is what a look at the registry came to. With ErrUnavailable, snap is
// the last good set if there is one.
type outcome struct {
	snap registry.Snapshot
	err  error
	at   time.Time // zero: ask again
}

func newService(c *Client, name string) *service {
	return &service{client: c, name: name, turn: make(chan struct{}, 1), belief: belief{lease: c.lease}}
}

// fetch answers from the last look if that is recent, and else has one.
func (s *service) fetch(ctx context.Context) (registry.Snapshot, error) {
	got, fresh := s.recent()
	if !fresh {
		got = s.look(ctx, false)
	}
	if len(got.snap.Instances) > 0 && !errors.Is(got.err, registry.ErrClosed) {
		return got.snap, nil
	}
	return registry.Snapshot{}, got.err
}

// recent returns the latest outcome and whether it still counts.
func (s *service) recent() (latest outcome, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := pause
	if s.poller != nil {
		age = max(age, 2*s.client.poll) // the poller is on it
	}
	return s.latest, !s.latest.at.IsZero() && time.Since(s.latest.at) < age
}

// look asks the registry, one caller at a time; who has waited for another one
// takes what that one found, unless he insists.
func (s *service) look(ctx context.Context, insist bool) outcome {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return s.unavailable(s.client.nodes.failure(nil, ended(ctx)))
	}
	if latest, fresh := s.recent(); fresh && !insist {
		return latest
	}
	began := time.Now()
	if began.Sub(s.asked) > max(s.client.lease, 2*s.client.poll) {
		s.belief.old = true
	}
	answers, err := s.ask(ctx)
	if err != nil && ended(ctx) != nil {
		return s.unavailable(err) // the caller's trouble is nobody else's
	}
	s.asked = began
	var got outcome
	if err != nil {
		s.belief.silence()
		got = s.unavailable(err)
	} else {
		got = s.conclude(answers)
	}
	got.at = began
	s.publish(got)
	return got
}

// unavailable is the last good set, if there is one, and err.
func (s *service) unavailable(err error) outcome {
	s.mu.Lock()
	snap := s.latest.snap
	s.mu.Unlock()
	if len(snap.Instances) > 0 {
		snap.Confirmed, snap.Reason = false, err.Error()
	}
	return outcome{snap: snap, err: s.wrap(err)}
}

func (s *service) wrap(err error) error {
	return fmt.Errorf("httpregistry: fetch %q (env %q): %w", s.name, s.client.env, err)
}

// ask asks one node, and others if the answer is doubtful or empty. With an error
// there are no answers.
func (s *service) ask(ctx context.Context) (answers []answer, err error) {
	tried := map[*node]bool{}
	var from []*node
	one := func() error {
		return s.client.nodes.each(ctx, tried, s.prefer, func(ctx context.Context, n *node) error {
			a, err := s.client.fetch(ctx, n, s.name)
			if err == nil {
				answers, from = append(answers, a), append(from, n)
			}
			return err
		})
	}
	err = one()
	if err != nil || from[0] != s.prefer {
		s.prefer = nil
	}
	if err != nil {
		return nil, err
	}
	switch doubtful := s.belief.doubts(answers[0]); {
	case !doubtful && len(answers[0].instances) > 0:
		return answers, nil
	case !doubtful: // nothing is at stake: it need not wait for the dead
		s.client.nodes.failing(tried)
	}
	for range others {
		if one() != nil {
			break
		}
	}
	s.weigh(ctx, answers, from)
	return answers, nil
}

// weigh finds out what the answers are worth: one of them may be all that is
// known, and its node the one to ask from now on; where they agree that something
// is gone, it counts how long their nodes have been up.
func (s *service) weigh(ctx context.Context, answers []answer, from []*node) {
	all := union(answers)
	lacking := s.belief.missing(all)
	for i, a := range answers {
		if len(lacking) == 0 && len(without(all, a.instances)) == 0 {
			if i > 0 {
				s.prefer = from[i]
			}
			return
		}
	}
	if len(lacking) > 0 && (len(answers) > 1 || s.belief.old) {
		for i := range answers {
			answers[i].settled = s.client.settled(ctx, from[i])
		}
	}
}

// conclude judges the answers.
func (s *service) conclude(answers []answer) outcome {
	doubted := len(s.belief.missed) > 0
	v := s.belief.judge(time.Now(), answers)
	s.log(doubted, v, answers)
	snap := registry.Snapshot{
		Service: s.name, Instances: v.instances, Skipped: v.skipped,
		Source: v.source, Confirmed: v.confirmed, Reason: v.reason,
	}
	if len(v.instances) == 0 {
		return outcome{err: s.wrap(fmt.Errorf("%w: %s", registry.ErrUnknownService, v.reason))}
	}
	return outcome{snap: snap}
}

// log tells what is new: a doubt that begins or ends, entries that are left out
// or put right.
func (s *service) log(doubted bool, v verdict, answers []answer) {
	log := s.client.log.With("service", s.name, "node", v.source)
	switch {
	case !doubted && !v.confirmed:
		log.Warn("answer doubted: last good set kept", "reason", v.reason)
	case v.certain != "" || doubted && v.confirmed:
		log.Info("answer believed", "instances", len(v.instances), "reason", cmp.Or(v.certain, "nothing is missing"))
	}
	told := make(map[string]bool)
	tell := func(text, message string, args ...any) {
		if told[text] = true; !s.told[text] {
			log.Warn(message, args...)
		}
	}
	for _, entry := range v.skipped {
		tell(entry.ID+": "+entry.Reason, "entry skipped", "id", entry.ID, "reason", entry.Reason)
	}
	for _, a := range answers {
		for _, note := range a.notes {
			tell(note, "entry put right", "what", note)
		}
	}
	s.told = told
}

// stand tells those who wait for p's first answer the last good set, if any.
func (s *service) stand(p *poller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.latest.snap
	if _, _, told := p.topic.Latest(); told || len(snap.Instances) == 0 {
		return
	}
	snap.Confirmed, snap.Reason = false, fmt.Sprintf("the registry has not answered within %v", patience)
	p.topic.Publish(snap, nil)
}

// publish makes got the latest, for those who watch too.
func (s *service) publish(got outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !got.at.After(s.expired) {
		got.at = time.Time{}
	}
	s.latest = got
	if s.poller != nil {
		s.poller.topic.Publish(got.snap, got.err)
	}
}

// expire makes the next look a fresh one, and the poller have it soon.
func (s *service) expire() {
	s.mu.Lock()
	s.latest.at, s.expired = time.Time{}, time.Now()
	p := s.poller
	s.mu.Unlock()
	if p != nil {
		p.refresh()
	}
}

// known says whether there is a good set to keep.
func (s *service) known() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.latest.snap.Instances) > 0
}
