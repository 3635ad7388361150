package failmode

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
	"github.com/rollcall-go/rollcall/pick"
)

// Error is the error of a call that may interest its caller for more than its
// status: it was tried more than once, it was not answered, or its code is
// Unavailable. Find it with errors.As. Every other error is returned as it came.
type Error struct {
	// Attempts are all attempts of the call, in order.
	Attempts []AttemptEvent
	// Reason says why no other attempt followed: one of the Reason constants.
	Reason string

	err        error // the status that the caller gets
	idempotent bool
}

// failure is what the caller is told about a call that failed with err.
func failure(call *attempt.Call, err error) error {
	events := call.Events()
	last := events[len(events)-1]
	e := &Error{Reason: last.Reason, err: err, idempotent: call.Idempotent()}
	switch {
	case last.Again: // and did not come to it
		e.Reason = ReasonCallerEnded
	case len(events) == 1 && status.Code(err) != codes.Unavailable && last.Class != pick.Unanswered:
		return err
	}
	for _, event := range events {
		e.Attempts = append(e.Attempts, AttemptEvent(event))
	}
	return e
}

// MayHaveExecuted says whether an attempt may have run a handler. False is
// certain.
func (e *Error) MayHaveExecuted() bool {
	return slices.ContainsFunc(e.Attempts, func(a AttemptEvent) bool { return !a.Class.NotExecuted() })
}

// GRPCStatus is the status of the last attempt, details included, with the story
// of the call in its message. After Failretry's instance has gone it is that of
// the last attempt that reached it, and if the caller cancelled the call between
// two attempts, it is that.
func (e *Error) GRPCStatus() *status.Status {
	story := e.story()
	if story == "" {
		return status.Convert(e.err)
	}
	p := status.Convert(e.err).Proto()
	p.Message += " (" + story + ")"
	return status.FromProto(p)
}

// Error has the form of all gRPC errors.
func (e *Error) Error() string { return e.GRPCStatus().String() }

// Unwrap returns the error whose status this error has.
func (e *Error) Unwrap() error { return e.err }

// story tells the attempts, and why there are no more; "" if there is nothing to
// tell.
func (e *Error) story() string {
	single := len(e.Attempts) == 1 && !e.Attempts[0].Again
	parts := []string{e.attempts()}
	switch e.Reason {
	case ReasonNotRetryable, ReasonMayHaveExecuted, ReasonBegun:
	case ReasonUsedUp, ReasonCallerEnded:
		if !single {
			parts = append(parts, e.Reason)
		}
	default:
		parts = append(parts, e.Reason)
	}
	if e.MayHaveExecuted() && !(single && e.idempotent) {
		parts = append(parts, ReasonMayHaveExecuted)
	}
	if single && len(parts) == 1 {
		return ""
	}
	return strings.Join(parts, "; ")
}

// attempts lists the attempts, each with its instances, code and class.
func (e *Error) attempts() string {
	list := make([]string, len(e.Attempts))
	for i, a := range e.Attempts {
		list[i] = fmt.Sprintf("%s %s %s", instances(a), status.Code(a.Err), a.Class)
	}
	noun := "attempts"
	if len(list) == 1 {
		noun = "attempt"
	}
	return fmt.Sprintf("%d %s: %s", len(list), noun, strings.Join(list, ", "))
}

// instances names the instances that were picked for the attempt.
func instances(a AttemptEvent) string {
	if len(a.Picks) == 0 {
		return "no instance"
	}
	var ids []string
	for _, p := range a.Picks {
		ids = append(ids, p.Target.ID)
	}
	return strings.Join(ids, " and ")
}
