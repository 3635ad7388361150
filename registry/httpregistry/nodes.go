package httpregistry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
)

// node is one server of the registry.
type node struct {
	url  string // scheme://host:port
	host string // host:port: what errors, logs and Snapshots call it
	seed bool   // configured, hence never forgotten

	// The rest is guarded by nodes.mu.

	proven bool      // its last answer was a registry's: any number of calls at once
	busy   bool      // it is not proven, and one call is finding out
	until  time.Time // it is not proven, and nobody tries before this
	fails  int       // in a row
	marks  int       // verdicts so far: calls that fail together count once
	err    error     // the last failure; nil after an answer
}

// nodes are the servers of the registry and what is known of their health,
// shared by everything the Client does. Calls stick to the current one while it
// answers. One that fails is left alone for its backoff and then tried by one
// call at a time.
type nodes struct {
	timeout time.Duration
	backoff backoff.Policy
	log     *slog.Logger

	seeds int // how many of list are configured: the first ones
	start int // which of them is tried first: not the same one by every client

	switched chan struct{} // has room for one: current is another node now

	mu      sync.Mutex // guards all below and the state of every node; nothing is called under it
	list    []*node    // the seeds as configured, then what the registry listed
	current *node
	changed chan struct{} // closed and replaced when a node may be worth trying
}

func newNodes(seeds []*node, c config) *nodes {
	limit := min(5*time.Second, c.poll) // back in service within one poll of its return
	return &nodes{
		timeout: c.timeout,
		backoff: backoff.Policy{Base: min(500*time.Millisecond, limit), Max: limit},
		log:     c.log,
		list:    seeds, seeds: len(seeds), start: rand.IntN(len(seeds)),
		changed: make(chan struct{}), switched: make(chan struct{}, 1),
	}
}

// each calls op with one node after another that is in neither tried nor in
// backoff, until one answers, and adds them to tried. The error is a *failure: why
// none did.
func (s *nodes) each(ctx context.Context, tried map[*node]bool, prefer *node, op func(context.Context, *node) error) error {
	failed := make(map[*node]error)
	for {
		n, mark, left, err := s.next(ctx, tried, prefer)
		if n == nil {
			return s.failure(failed, err)
		}
		tried[n] = true
		if err := s.call(ctx, n, mark, left, op); err != nil {
			failed[n] = err
			continue
		}
		return nil
	}
}

// on calls op with this node, whatever its state.
func (s *nodes) on(ctx context.Context, n *node, op func(context.Context, *node) error) error {
	s.mu.Lock()
	mark := n.marks
	s.mu.Unlock()
	if err := s.call(ctx, n, mark, 1, op); err != nil {
		return fmt.Errorf("%s: %w", n.host, err)
	}
	return nil
}

// call calls op with n, within the timeout of one request and its share of what
// ctx leaves for as many nodes, and takes note of how it went.
func (s *nodes) call(ctx context.Context, n *node, mark, left int, op func(context.Context, *node) error) error {
	share := s.timeout
	if deadline, ok := ctx.Deadline(); ok {
		share = min(share, time.Until(deadline)/time.Duration(left))
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	err := op(limited, n)
	if err != nil && limited.Err() != nil {
		if err = limited.Err(); errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", share.Round(10*time.Millisecond))
		}
	}
	_, refused := errors.AsType[*refusal](err)
	_, unknown := errors.AsType[*unsupported](err)
	switch {
	case err == nil || refused:
		s.answered(n)
	case unknown:
		s.abandoned(n)
	// Who gives up, or has little time for each node, proves nothing.
	case ended(limited) != nil && (!errors.Is(ended(limited), context.DeadlineExceeded) || time.Since(began) < s.timeout/4):
		s.abandoned(n)
	default:
		s.failed(n, mark, began, err)
	}
	return err
}

// ended is why ctx has ended, or nil. A deadline that is over counts although the
// timer may not have fired yet.
func ended(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return context.Cause(ctx)
}

// next picks a node to try: prefer, then the current one, then the next that is
// proven, then the next that is due. While there is none but others are finding
// out about one, it waits for them; nil when nothing is left or ctx has ended.
func (s *nodes) next(ctx context.Context, tried map[*node]bool, prefer *node) (n *node, mark, left int, err error) {
	for {
		if err := ended(ctx); err != nil {
			return nil, 0, 0, err
		}
		s.mu.Lock()
		n, left, busy := s.pick(tried, prefer)
		if n != nil {
			n.busy, mark = !n.proven, n.marks
		}
		changed := s.changed
		s.mu.Unlock()
		if n != nil || !busy {
			return n, mark, left, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// pick needs mu. left counts the nodes that could be tried, busy says whether
// someone is finding out about another one.
func (s *nodes) pick(tried map[*node]bool, prefer *node) (best *node, left int, busy bool) {
	now, bestRank := time.Now(), 0
	for i := range s.list {
		n := s.list[s.order(i)]
		rank := 0
		switch {
		case tried[n]:
		case n.proven || !n.busy && !now.Before(n.until):
			rank = 1
			if n.proven {
				rank = 2
			}
			if n.proven && n == s.current {
				rank = 3
			}
			if n == prefer {
				rank = 4
			}
			left++
		case n.busy:
			busy = true
		}
		if rank > bestRank {
			best, bestRank = n, rank
		}
	}
	return best, left, busy
}

// order is the index in list of the i-th node to try: all seeds, from start on,
// before any other.
func (s *nodes) order(i int) int {
	if i < s.seeds {
		return (i + s.start) % s.seeds
	}
	return i
}

func (s *nodes) answered(n *node) {
	s.mu.Lock()
	failed, proven, current := n.fails > 0, n.proven, s.current
	n.proven, n.busy, n.fails, n.err, n.until = true, false, 0, nil, time.Time{}
	if !proven {
		n.marks++
		s.wake()
	}
	// A seed takes over from a node that only the registry's list vouches for.
	switching := current != n && (current == nil || !current.proven || n.seed && !current.seed)
	if switching {
		s.switchNode(n)
	}
	s.mu.Unlock()

	if failed {
		s.log.Info("registry node answers again", "node", n.host)
	}
	if switching {
		s.log.Info("registry node chosen", "node", n.host)
	}
}

func (s *nodes) failed(n *node, mark int, began time.Time, err error) {
	s.mu.Lock()
	n.busy = false
	s.wake()
	if n.marks != mark { // another call's verdict came first
		s.mu.Unlock()
		return
	}
	news := n.err == nil || n.err.Error() != err.Error()
	// Counted from the start of the call, lest a node that hangs is tried seldom.
	n.until = began.Add(s.backoff.Delay(n.fails))
	if soonest := time.Now().Add(s.backoff.Base / 2); n.until.Before(soonest) {
		n.until = soonest
	}
	n.proven, n.err = false, err
	n.fails++
	n.marks++
	s.mu.Unlock()

	if news {
		s.log.Warn("registry node failed", "node", n.host, "error", err)
	}
}

func (s *nodes) abandoned(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.busy = false
	s.wake()
}

// failing adds to tried the nodes whose last call failed.
func (s *nodes) failing(tried map[*node]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.list {
		if n.fails > 0 {
			tried[n] = true
		}
	}
}

// switchNode needs mu.
func (s *nodes) switchNode(n *node) {
	s.current = n
	select {
	case s.switched <- struct{}{}:
	default:
	}
}

// wake needs mu.
func (s *nodes) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// down says whether no node can be tried now.
func (s *nodes) down() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ready, _ := s.due()
	return !ready
}

// wait returns when some node can be tried, at once if one can now, or when ctx
// has ended.
func (s *nodes) wait(ctx context.Context) {
	for {
		s.mu.Lock()
		ready, due := s.due()
		changed := s.changed
		s.mu.Unlock()
		if ready || ended(ctx) != nil {
			return
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// due needs mu. It says whether a node can be tried, or when the next one can.
func (s *nodes) due() (ready bool, at time.Time) {
	now := time.Now()
	at = now.Add(s.backoff.Max)
	for _, n := range s.list {
		switch {
		case n.proven || !n.busy && !now.Before(n.until):
			return true, now
		case !n.busy && n.until.Before(at):
			at = n.until
		}
	}
	return false, at
}
