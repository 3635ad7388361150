package httpregistry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

const (
	// checkFreely is the size of a service up to which everybody looks for itself
	// at every node. In larger ones they take turns, since with N of them that is N²
	// entries to send; the others register again without a look.
	checkFreely = 1000
	// checkWithin bounds how long further nodes are asked after the first has
	// answered: a beat may be due.
	checkWithin = 5 * time.Second
)

// check looks whether every node that answers shows the instance as it was stored.
// What a node has acknowledged may be missing all the same, or be somebody else's,
// and the word of it may not have reached the others.
func (b *beater) check(ctx context.Context) error {
	tried := map[*node]bool{}
	v, err := b.look(ctx, tried)
	if err != nil {
		return err
	}
	before := b.holder()
	others, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	b.size = v.size
	var errs []error
	var free []view // where there is nobody else
	for err == nil {
		if other := b.stranger(v); other != "" {
			b.setHolder(other)
			if other != before {
				b.send(registry.Collision, v.node, fmt.Errorf("another process has registered as %q: %s", b.id.Hostname, other))
			}
			return errors.Join(errs...)
		}
		if before == "" {
			errs = append(errs, b.settle(ctx, v))
		} else {
			free = append(free, v)
		}
		if !myTurn(v.size) {
			break
		}
		v, err = b.look(others, tried)
	}
	b.setHolder("")
	for _, v := range free {
		errs = append(errs, b.settle(ctx, v))
	}
	return errors.Join(errs...)
}

// myTurn is true for checkFreely instances of a service of that size.
func myTurn(size int) bool { return rand.N(max(size, 1)) < checkFreely }

// view is what a node shows of the service.
type view struct {
	node  *node
	size  int            // of the set
	entry *wire.Instance // under the identity of the registration; nil: there is none
	date  time.Time      // the node's clock; zero if it did not say
	mine  time.Duration  // since the last register
}

// look asks the next node that is not in tried, first the one that has acknowledged
// the instance.
func (b *beater) look(ctx context.Context, tried map[*node]bool) (v view, err error) {
	err = b.operate(ctx, func(ctx context.Context) error {
		return b.client.nodes.each(ctx, tried, b.acked.node, func(ctx context.Context, n *node) error {
			a, err := b.client.fetch(ctx, n, b.id.AppID)
			v.node, v.size, v.date, v.mine = n, len(a.entries), a.date, time.Since(b.acked.sent)
			i := slices.IndexFunc(a.entries, func(e wire.Instance) bool {
				return e.Hostname == b.id.Hostname && e.AppID == b.id.AppID && e.Env == b.id.Env
			})
			if i >= 0 {
				v.entry = &a.entries[i]
			}
			return err
		})
	})
	return v, err
}

// stranger describes the process that the view shows in place of this one; "" if it
// shows none, or an older content or predecessor, which has won a race between nodes.
func (b *beater) stranger(v view) string {
	if v.entry == nil || v.older() {
		return ""
	}
	shown, _, err := decode(*v.entry)
	stored := b.Instance()
	if err == nil && shown.Life == stored.Life && (shown.Life != "" || slices.Equal(shown.Addrs, stored.Addrs)) {
		return ""
	}
	return fmt.Sprintf("life %q at %v", shown.Life, v.entry.Addrs)
}

// settle registers the instance at a node that does not show it as it was stored.
func (b *beater) settle(ctx context.Context, v view) error {
	if v.entry == nil {
		return b.restore(ctx, v.node, "it does not show the instance")
	}
	if shown, _, err := decode(*v.entry); err == nil && shown.Equal(b.Instance()) {
		return nil
	}
	return b.operate(ctx, func(ctx context.Context) error { return b.client.nodes.on(ctx, v.node, b.post) })
}

// older says whether the entry is certainly from before our register: by the node's
// clock, which tells whole seconds, its age is more than the time since then.
func (v view) older() bool {
	return !v.date.IsZero() && v.date.Sub(time.Unix(0, v.entry.RegTimestamp)) > v.mine
}

// holder describes the process that the registry shows in place of this one, as
// the last check has found; "" if there is none.
func (r *registration) holder() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.other
}

func (r *registration) setHolder(other string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.other = other
}
