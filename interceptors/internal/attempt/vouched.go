package attempt

import (
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/pick"
)

// prefix begins every error with which the rollcall policy fails a pick.
const prefix = "rollcall: "

// vouched says whether err is the end of that attempt of which the record knows
// that it did not execute. It is not when the balancer saw another end, or none:
// then somebody else has had the call in hand since, of whom nothing is known. An
// interceptor below may have sent it elsewhere or have left it waiting for a
// pick; another policy may have taken over while it waited.
//
// What wraps the error and keeps its text does no harm.
func vouched(picks []pick.Attempt, err error) bool {
	got := status.Convert(err)
	if waited(got) {
		return true
	}
	if n := len(picks); n > 0 {
		seen := status.Convert(picks[n-1].Err)
		return got.Code() == seen.Code() && strings.Contains(got.Message(), seen.Message())
	}
	return got.Code() == codes.Unavailable && strings.Contains(got.Message(), prefix)
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
