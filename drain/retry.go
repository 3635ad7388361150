package drain

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"
)

// The trailers by which a server advises a caller about another attempt. Advice
// only ever makes fewer attempts, so it needs no proof and holds whoever relays
// it.
const (
	// NoRetryKey says that the server has tried again itself, further down, as
	// long as that was right. If every hop above it did so too, attempts would
	// multiply.
	NoRetryKey = "rollcall-no-retry"
	// PushbackKey is gRPC's own (gRFC A6): after how many milliseconds to try
	// again; anything else than a number from 0 on is a no.
	PushbackKey = "grpc-retry-pushback-ms"
)

// longestPushback is how long a caller can be told to wait. Who says more means
// that this call need not come again.
const longestPushback = time.Minute

// NoRetry is the trailer that says: do not try again.
func NoRetry() metadata.MD { return metadata.Pairs(NoRetryKey, "1") }

// ReadRetry returns what the trailer of a failed attempt says about another one:
// never, or after a wait. 0 means that nothing is said, or that none is needed.
func ReadRetry(trailer metadata.MD) (never bool, wait time.Duration) {
	pushback := trailer[PushbackKey]
	switch {
	case len(trailer[NoRetryKey]) > 0 || len(pushback) > 1:
		return true, 0
	case len(pushback) == 0:
		return false, 0
	}
	ms, err := strconv.ParseInt(pushback[0], 10, 64)
	if err != nil || ms < 0 || ms > longestPushback.Milliseconds() {
		return true, 0
	}
	return false, time.Duration(ms) * time.Millisecond
}

// Hop is a call that a server handles, seen from the calls its handler makes.
type Hop struct{ gaveUp atomic.Bool }

type hopKey struct{}

// NewHop returns ctx for the handler of a call. The server's interceptor calls it.
func NewHop(ctx context.Context) (context.Context, *Hop) {
	h := new(Hop)
	return context.WithValue(ctx, hopKey{}, h), h
}

// GiveUp notes for the call that is handled under ctx, if any, that a call made
// on its behalf was tried again as long as that was right, and failed.
func GiveUp(ctx context.Context) {
	if h, ok := ctx.Value(hopKey{}).(*Hop); ok {
		h.gaveUp.Store(true)
	}
}

// GaveUp says whether GiveUp was called.
func (h *Hop) GaveUp() bool { return h.gaveUp.Load() }
