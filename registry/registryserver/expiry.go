package registryserver

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// sweep is what one look at expiry found and did.
type sweep struct {
	instances, expected, beats int // before it; renewals expected and seen since the last one
	protected, changed         bool
	expired                    []expired
}

type expired struct {
	wire.Identity
	silent time.Duration
}

// expire drops instances that have been silent too long.
func (s *store) expire(now time.Time, exp Expiry) sweep {
	s.mu.Lock()
	defer s.mu.Unlock()
	need := float64(s.total) * (float64(exp.Tick) / float64(exp.Interval))
	found := sweep{instances: s.total, expected: int(need), beats: s.beats}
	found.protected = s.beats < int(need*exp.Threshold)
	found.changed = found.protected != s.protected
	s.beats, s.protected = 0, found.protected

	limit := exp.Lease
	if found.protected {
		limit = exp.HardLease
	}
	dead := s.silent(now, limit)
	most := s.total - int(float64(s.total)*exp.Threshold)
	if len(dead) > most {
		rand.Shuffle(len(dead), func(i, j int) { dead[i], dead[j] = dead[j], dead[i] })
		dead = dead[:most]
	}
	found.expired = s.drop(dead, now)
	return found
}

// silent returns who has not renewed for longer than limit. s.mu is held.
func (s *store) silent(now time.Time, limit time.Duration) []*entry {
	var dead []*entry
	for _, b := range s.buckets {
		for _, e := range b.entries {
			if now.Sub(e.renewed) > limit {
				dead = append(dead, e)
			}
		}
	}
	return dead
}

// drop removes the entries, in one pass however many there are. s.mu is held.
func (s *store) drop(dead []*entry, now time.Time) []expired {
	if len(dead) == 0 {
		return nil
	}
	doomed := make(map[*entry]bool, len(dead))
	for _, e := range dead {
		doomed[e] = true
	}
	gone := make([]expired, 0, len(dead))
	for k, b := range s.buckets {
		before := len(b.entries)
		b.entries = slices.DeleteFunc(b.entries, func(e *entry) bool {
			if doomed[e] {
				id := wire.Identity{Env: k.env, AppID: k.appID, Hostname: e.hostname}
				gone = append(gone, expired{Identity: id, silent: now.Sub(e.renewed)})
			}
			return doomed[e]
		})
		s.removed(k, before-len(b.entries), now.UnixNano())
	}
	return gone
}

// keepTime renews the node's own entry and drops silent instances until ctx ends.
func (s *Server) keepTime(ctx context.Context) {
	exp := s.cfg.expiry
	tick := time.NewTicker(exp.Tick)
	defer tick.Stop()
	// The own renewals start half an interval off the ticks, so that every
	// stretch between two ticks holds the same number of them.
	beat := time.NewTicker(max(exp.Interval/2, 1))
	defer beat.Stop()
	for first := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if first {
				beat.Reset(exp.Interval)
				first = false
			}
			s.store.renew(s.self(), time.Now())
		case <-tick.C:
			s.report(ctx, s.store.expire(time.Now(), exp))
		}
	}
}

// report logs what changed at a tick.
func (s *Server) report(ctx context.Context, found sweep) {
	if found.changed {
		text := "self-protection off"
		if found.protected {
			text = "self-protection on: too few renewals, keeping silent instances"
		}
		s.cfg.logger.LogAttrs(ctx, slog.LevelWarn, text, slog.Int("renewals", found.beats),
			slog.Int("expected", found.expected), slog.Int("instances", found.instances))
	}
	for _, e := range found.expired {
		s.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "expired", append(identity(e.Identity), slog.Duration("silent", e.silent))...)
	}
}
