package registrar

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// fetcher is what a Registry has that tells who is registered; every
// registry.Registry does.
type fetcher interface {
	Fetch(ctx context.Context, service string) (registry.Snapshot, error)
}

// uniqueID is the host's name, for people, and 40 random bits, for uniqueness.
func uniqueID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return withRandom(host)
}

func withRandom(name string) string { return name + "-" + strings.ToLower(rand.Text()[:8]) }

// ownID sees to it that an ID that was given is not that of another process, which
// the registry would let the later one replace.
func (l *life) ownID(ctx context.Context) error {
	other, found := l.namesake(ctx)
	if !found {
		return nil
	}
	alive, doubt := l.isAlive(ctx, other)
	where := slog.String("addrs", strings.Join(other.Addrs, " "))
	switch {
	case alive && l.opts.uniqueID:
		l.rename(withRandom(other.ID))
		l.opts.logger.Warn("registrar: another process has the ID that was given: taking another", slog.String("id", l.Instance().ID), where)
	case alive:
		return fmt.Errorf("%w: %q of %q is alive at %s; give each process an ID of its own, or none, or use WithUniqueID",
			ErrIDTaken, other.ID, other.Service, where.Value)
	case doubt != nil:
		l.opts.logger.Warn("registrar: replacing what is registered under the same ID, which may be another process", where, slog.Any("error", doubt))
	}
	return nil
}

// namesake returns the other process that is registered under an ID that was
// given. A registry that cannot be asked shows none.
func (l *life) namesake(ctx context.Context) (other registry.Instance, found bool) {
	reg, ok := l.reg.(fetcher)
	if !ok || !l.named {
		return other, false
	}
	ctx, cancel := context.WithTimeout(ctx, l.opts.registerTimeout/4) // the rest is for registering
	defer cancel()
	mine := l.Instance()
	snap, err := reg.Fetch(ctx, mine.Service)
	if err != nil {
		return other, false
	}
	i := slices.IndexFunc(snap.Instances, func(inst registry.Instance) bool {
		return inst.ID == mine.ID && inst.Life != mine.Life
	})
	if i < 0 {
		return other, false
	}
	return snap.Instances[i], true
}

// isAlive asks the other process, of which the registry may show what it left when
// it was killed. doubt is why one that is not proven to be alive may be so all the
// same: something answers at its address and does not say who it is. What answers
// where this server listens is this server.
func (l *life) isAlive(ctx context.Context, other registry.Instance) (alive bool, doubt error) {
	for _, addr := range other.Addrs {
		if slices.Contains(l.Instance().Addrs, addr) {
			continue
		}
		if l.probeMode() == ProbeOff {
			doubt = errors.New("WithSelfProbe is off, so it is not asked")
			continue
		}
		switch who, err := l.ask(ctx, addr, other.TLS); {
		case who == identity(other):
			return true, nil
		case who == "" && err == nil:
			doubt = errNameless
		case who == "" && !refused(err):
			doubt = err
		}
	}
	return false, doubt
}

// refused says whether nobody listens at the address that was asked, as the text
// says of an error of which gRPC keeps nothing else.
func refused(err error) bool { return strings.Contains(err.Error(), "connection refused") }

// rename gives the server another ID, before it is registered.
func (r *Registrar) rename(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inst.ID = id
	r.gate.name(r.inst)
}
