package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
)

// registerBackoff is between tries, for registries that do not retry themselves.
var registerBackoff = backoff.Policy{Base: 100 * time.Millisecond, Max: 5 * time.Second}

// registerInTime is register within the register timeout, if that counts.
func (l *life) registerInTime() (registry.Registration, error) {
	if l.opts.background {
		return l.register(l.wanted)
	}
	ctx, cancel := context.WithTimeout(l.wanted, l.opts.registerTimeout)
	defer cancel()
	return l.register(ctx)
}

// registerAnew registers a server whose ID another process has taken under another
// one. The registration is nil if the server is no longer wanted, or cannot be
// registered at all.
func (l *life) registerAnew() registry.Registration {
	l.rename(withRandom(l.Instance().ID))
	l.opts.logger.Warn("registrar: taking another ID", slog.String("id", l.Instance().ID))
	registration, err := l.register(l.wanted)
	if err != nil {
		l.opts.logger.Error("registrar: the server is no longer registered", slog.Any("error", err))
	}
	return registration
}

// register tries until it has worked, ctx has ended, trying again is useless, or the
// server is no longer wanted: then it returns neither a registration nor an error.
func (l *life) register(ctx context.Context) (registry.Registration, error) {
	var told string
	for n := 0; ; n++ {
		if l.wanted.Err() != nil {
			return nil, nil
		}
		registration, err := l.tryRegister(ctx)
		switch {
		case err == nil:
			return registration, nil
		case l.wanted.Err() != nil:
			return nil, nil
		case useless(err):
			return nil, wrap("register "+l.Instance().ID, err)
		}
		if why := err.Error(); why != told {
			told = why
			l.opts.logger.Warn("registrar: not registered yet", slog.Any("error", err))
		}
		if backoff.Wait(ctx, registerBackoff.Delay(n)) == nil {
			continue
		}
		if l.wanted.Err() != nil {
			return nil, nil
		}
		return nil, fmt.Errorf("registrar: could not register %s within %v: %w", l.Instance().ID, l.opts.registerTimeout, err)
	}
}

// useless says whether trying again cannot help.
func useless(err error) bool {
	return errors.Is(err, registry.ErrInvalid) || errors.Is(err, registry.ErrDuplicate) || errors.Is(err, registry.ErrClosed)
}

// tryRegister tries once, for as long as the register timeout.
func (l *life) tryRegister(ctx context.Context) (registry.Registration, error) {
	ctx, cancel := context.WithTimeout(ctx, l.opts.registerTimeout)
	defer cancel()
	if err := l.locate(ctx); err != nil {
		return nil, err
	}
	if err := l.requireProbe(ctx); err != nil {
		return nil, err
	}
	if err := l.ownID(ctx); err != nil {
		return nil, err
	}
	return l.reg.Register(ctx, l.Instance())
}

// follow reports the events of the registration until they end, or until it is
// over and those before that have been reported. It says so once in lost if another
// process has taken the ID and this one is to take another.
func (l *life) follow(events <-chan registry.Event, lost chan<- struct{}, over <-chan struct{}) {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			l.report(e)
			if e.Kind == registry.Collision && l.opts.uniqueID {
				select {
				case lost <- struct{}{}:
				default:
				}
			}
			continue
		case <-over:
		}
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			l.report(e)
		default:
			return
		}
	}
}

func (l *life) report(e registry.Event) {
	level := slog.LevelInfo
	switch {
	case e.Kind == registry.Collision:
		level = slog.LevelError // somebody has to see to it
	case e.Err != nil:
		level = slog.LevelWarn
	}
	l.opts.logger.LogAttrs(context.Background(), level, "registrar: registration: "+e.Kind.String(),
		slog.String("node", e.Node), slog.Any("error", e.Err))
	l.opts.onEvent(e)
}
