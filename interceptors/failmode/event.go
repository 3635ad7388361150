package failmode

import (
	"time"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
	"github.com/rollcall-go/rollcall/pick"
)

// AttemptEvent is one attempt that has ended.
type AttemptEvent struct {
	// Method is the full method, like "/shop.Orders/Get".
	Method string
	// Attempt counts the attempts of the call, from 1.
	Attempt int
	// Hedge says that it was made beside the attempt before it (WithHedging).
	Hedge bool
	// Target is the instance that was picked; empty if none was.
	Target pick.Target
	// Class says what is certain about the execution of the attempt.
	Class pick.Class
	// Picks are all instances that were picked within the attempt: more than one
	// where gRPC retried by itself. Target is the last one, Class is about all.
	Picks []pick.Attempt
	// Err is the attempt's error, compatible with the status package; nil for
	// success.
	Err error
	// Duration is how long the attempt took, without the wait before it.
	Duration time.Duration
	// Again says that another attempt is to follow, after a wait that the caller
	// may yet end. Reason says why or why not: one of the Reason constants.
	Again  bool
	Reason string
}

// Why an attempt is followed by another one.
const (
	ReasonNotExecuted = attempt.NotExecuted // certain
	ReasonIdempotent  = attempt.Idempotent  // the method may execute again
)

// Why an attempt is not followed by another one.
const (
	ReasonSucceeded       = attempt.Succeeded
	ReasonNotRetryable    = attempt.NotRetryable    // neither Unavailable nor its own timeout
	ReasonMayHaveExecuted = attempt.MayHaveExecuted // and the method may not execute again
	ReasonUsedUp          = attempt.UsedUp          // WithMaxAttempts
	ReasonCallerEnded     = attempt.CallerEnded     // the caller's deadline or cancel
	ReasonNoTime          = attempt.NoTime          // an attempt would not end before the deadline
	ReasonBudgetEmpty     = attempt.BudgetEmpty     // WithBudget
	ReasonDiscouraged     = attempt.Discouraged     // its no-retry trailer, or gRPC's push-back
	ReasonPinGone         = attempt.PinGone         // Failretry's instance is gone
	ReasonDropped         = attempt.Dropped         // the balancer ended the call
	ReasonBegun           = attempt.Begun           // a stream that is past its beginning
	ReasonOutrun          = attempt.Outrun          // the attempt beside it has the answer
)
