package registrar

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
)

// State is where in its life the server is. The package comment says what
// happens in each.
type State int32

// The states, in the order in which they are passed through. A life that fails
// or is ended early leaves some out; none ever comes back.
const (
	StateStarting   State = iota // not serving yet
	StateListening               // accepts connections, is not registered yet
	StateRegistered              // in the registry
	StateDraining                // leaving the registry, serves on and says so
	StateClosing                 // takes no new connections, finishes the calls in hand
	StateStopped                 // the end
)

var stateNames = [...]string{
	StateStarting: "starting", StateListening: "listening", StateRegistered: "registered",
	StateDraining: "draining", StateClosing: "closing", StateStopped: "stopped",
}

// String returns the name that logs show.
func (s State) String() string {
	if s >= 0 && int(s) < len(stateNames) {
		return stateNames[s]
	}
	return strconv.Itoa(int(s))
}

// enter makes s the state. Only the life calls it, once at a time.
func (r *Registrar) enter(s State) {
	attrs := []slog.Attr{slog.String("state", s.String())}
	switch {
	case s == StateRegistered:
		inst := r.Instance()
		attrs = append(attrs, slog.String("id", inst.ID), slog.Any("addrs", inst.Addrs))
	case s > StateRegistered:
		attrs = append(attrs, slog.Any("why", context.Cause(r.wanted)), slog.Int("inHand", r.InHand()))
	}
	r.state.Store(int32(s))
	r.opts.logger.LogAttrs(context.Background(), slog.LevelInfo, "registrar: "+s.String(), attrs...)
	r.opts.onState(s)
}

// reason is why the server is to go down, when nobody gave an error.
type reason string

func (r reason) Error() string { return string(r) }

const (
	errShutdown = reason("Shutdown was called")
	errStop     = reason("Stop was called")
	errListener = reason("the listener was closed")
	errEnded    = reason("it failed")
)

func wrap(what string, err error) error { return fmt.Errorf("registrar: %s: %w", what, err) }
