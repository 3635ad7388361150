package attempt

import (
	"errors"
	"strings"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/pick"
)

// vouched says whether err is the end of that attempt of which the record knows
// that it did not execute; notPicked is the error of a pick that led to no attempt.
// It is not when the balancer saw another end, or none: then somebody else has had
// the call in hand since, of whom nothing is known. An interceptor below may have
// sent it elsewhere or have left it waiting for a pick; another policy may have
// taken over while it waited.
//
// What wraps the error and keeps its text does no harm.
func vouched(picks []pick.Attempt, notPicked, err error) bool {
	got := status.Convert(err)
	if waited(got) {
		return true
	}
	seen := told(notPicked)
	if n := len(picks); n > 0 {
		seen = status.Convert(picks[n-1].Err)
	}
	return seen != nil && got.Code() == seen.Code() && strings.Contains(got.Message(), seen.Message())
}

// told is what gRPC tells the caller of a pick that ended with err; nil where it
// goes on waiting.
func told(err error) *status.Status {
	if err == nil || errors.Is(err, gbalancer.ErrNoSubConnAvailable) {
		return nil
	}
	if st, ok := status.FromError(err); ok {
		return st
	}
	return status.New(codes.Unavailable, err.Error())
}

// awaited is err and, if the call has waited for a pick until its end, for whom it
// waited, which gRPC does not say.
func awaited(err, notPicked error) error {
	st := status.Convert(err)
	if notPicked == gbalancer.ErrNoSubConnAvailable || !errors.Is(notPicked, gbalancer.ErrNoSubConnAvailable) || !waited(st) {
		return err
	}
	return status.Errorf(st.Code(), "%s: %v", st.Message(), notPicked)
}

// waited says whether gRPC says that the context ended while nobody was picked:
// that no pick came after those in the record, whoever was to make it.
func waited(st *status.Status) bool {
	if st.Code() != codes.DeadlineExceeded && st.Code() != codes.Canceled {
		return false
	}
	return strings.Contains(st.Message(), "while waiting for connections to become ready") ||
		strings.Contains(st.Message(), "latest balancer error: ")
}
