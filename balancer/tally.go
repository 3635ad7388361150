package balancer

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/pick"
)

// tally is what is counted of one instance's calls, as far as somebody wants to
// know. It has a cache line of its own.
type tally struct {
	// calls are those in hand, and the answers of calls that were, counted together so that it
	// costs no more than one: handBits for all in hand, as many for the unary ones, and in the
	// rest the answers.
	calls       atomic.Uint64
	failed      atomic.Uint32 // calls that speak against the instance
	consecutive atomic.Uint32 // failures since the last good one

	// Latency of unary calls in ns, 0 before the first answer. Times are on the
	// engine's clock.
	peak     atomic.Int64 // moving average that follows a slow answer at once
	measured atomic.Int64 // when peak was last updated
	usual    atomic.Int64 // moving average of answers
	picked   atomic.Int64 // when the instance was last picked, if picks are measured

	_ [16]byte
}

// How calls are divided, from the lowest bit on.
const (
	handBits   = 21 // two million calls in hand of one instance
	oneAnswer  = 1 << (2 * handBits)
	maxHand    = 1<<handBits - 1
	maxAnswers = 1<<(64-2*handBits) - 1
)

// callKind is how a call is counted in hand.
type callKind uint8

const (
	uncounted callKind = iota
	streamCall
	unaryCall
)

// inHand is what a call of each kind adds to calls.
var inHand = [...]uint64{uncounted: 0, streamCall: 1, unaryCall: 1 + 1<<handBits}

// enter and leave count a call in hand.
func (t *tally) enter(kind callKind) {
	if kind != uncounted {
		t.calls.Add(inHand[kind])
	}
}

func (t *tally) leave(kind callKind) {
	if kind != uncounted {
		t.calls.Add(-inHand[kind])
	}
}

func (t *tally) inHand() uint32   { return uint32(t.calls.Load() & maxHand) }
func (t *tally) waiting() uint32  { return uint32(t.calls.Load() >> handBits & maxHand) }
func (t *tally) answered() uint32 { return uint32(t.calls.Load() / oneAnswer) }

// outcome is what a call says about the instance that it went to.
type outcome uint8

const (
	unsent outcome = iota // gRPC did not use the pick
	good                  // the instance answered
	bad                   // it failed in a way that speaks against the instance
	moot                  // the caller, or a caller's deadline, ended it
)

// judge returns the outcome of a call that ended like this. ctx is the attempt's,
// or nil if that is not known.
func judge(info *gbalancer.DoneInfo, ctx context.Context) outcome {
	if info.Err == nil {
		if !info.BytesSent && !info.BytesReceived {
			return unsent
		}
		return good
	}
	switch code := status.Code(info.Err); {
	case code == codes.Unavailable, timedOut(code, ctx):
		return bad
	case code == codes.Canceled || code == codes.DeadlineExceeded || !info.BytesReceived:
		return moot
	default:
		return good
	}
}

// timedOut says whether a time limit that a policy has set, and not the caller,
// has ended the call.
func timedOut(code codes.Code, ctx context.Context) bool {
	return (code == codes.DeadlineExceeded || code == codes.Canceled) && ctx != nil && context.Cause(ctx) == pick.ErrTimeout
}

// fail counts a call that speaks against the instance.
func (t *tally) fail() {
	t.failed.Add(1)
	t.consecutive.Add(1)
}

// counts is a reading of how many calls have ended how.
type counts struct{ answered, failed uint32 }

// counts is what was counted of c's calls.
func (c *child) counts() counts {
	c.collect()
	now := counts{c.answered, c.tally.failed.Load()}
	if c.answers != nil {
		now.answered += c.answers.of(c.column)
	}
	return now
}

// collect takes over answers from c's tally, before there are more than fit.
func (c *child) collect() { c.answered += (c.tally.answered() - c.answered) & maxAnswers }

// since is what has been added to an earlier reading.
func (now counts) since(earlier counts) record {
	failed := float64(now.failed - earlier.failed)
	return record{float64(now.answered-earlier.answered) + failed, failed}
}

// The moving averages of latency.
const (
	// peakMemory is the time in which the weight of an old peak falls to 1/e.
	peakMemory = 2 * time.Second
	// A failure counts as an answer that took so many times as long as the peak, up
	// to the most.
	failureTimes = 8
	maxFailure   = 5 * time.Second
	// usualCalls is over about how many calls the usual latency is taken, and
	// usualTimes how many times as long as usual a call counts at most.
	usualCalls = 16
	usualTimes = 16
)

// observe adds what a call took to the averages. Of two that are added at the same
// moment one may be lost.
func (t *tally) observe(now, took time.Duration, o outcome) {
	peak := time.Duration(t.peak.Load())
	switch o {
	case unsent:
		return
	case moot: // it would have taken longer
		if took <= peak {
			return
		}
	case bad:
		took = max(took, min(failureTimes*max(peak, took), maxFailure))
	case good:
		t.observeUsual(took)
	}
	if took < peak {
		age := max(0, now-time.Duration(t.measured.Load())) // calls end in any order
		old := math.Exp(-float64(age) / float64(peakMemory))
		took = time.Duration(float64(peak)*old + float64(took)*(1-old))
	}
	t.peak.Store(int64(took))
	t.measured.Store(int64(now))
}

// atLeast takes note that calls have waited for so long and still wait.
func (t *tally) atLeast(waited time.Duration) {
	if peak := t.peak.Load(); int64(waited) > peak {
		t.peak.CompareAndSwap(peak, int64(waited))
	}
}

// forgive forgets failures and slow answers of an instance that is well again.
func (t *tally) forgive() {
	t.consecutive.Store(0)
	t.peak.Store(t.usual.Load())
}

func (t *tally) observeUsual(took time.Duration) {
	usual := time.Duration(t.usual.Load())
	if usual == 0 {
		usual = took
	}
	took = min(took, usualTimes*max(usual, time.Millisecond))
	t.usual.Store(int64(usual + (took-usual)/usualCalls))
}
