package pick

import "strconv"

// Class says what is certain about the execution of an attempt.
type Class uint8

// The classes, from the one that certainly did not reach a handler.
const (
	// NeverPicked: no instance was chosen, so nothing was sent anywhere.
	NeverPicked Class = iota
	// NotSent: an instance was chosen, but no stream to it came about.
	NotSent
	// Unanswered: sent, and nothing came back. It may have executed.
	Unanswered
	// Answered: the server answered; the status is the handler's own.
	Answered
	// Refused: a closing server proved that it did not execute the call.
	Refused
	// Untracked: no balancer said anything about this error, because another
	// policy than rollcall is in use or an interceptor answered. It may have
	// executed.
	Untracked
)

var classNames = [...]string{"never_picked", "not_sent", "sent_no_answer", "answered", "refused", "untracked"}

// String returns the name used in errors, logs and counters.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return strconv.Itoa(int(c))
}

// NotExecuted says whether an attempt of this class has certainly not run any
// handler, so that trying again cannot run it twice.
func (c Class) NotExecuted() bool { return c == NeverPicked || c == NotSent || c == Refused }
