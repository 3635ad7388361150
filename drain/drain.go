// Package drain is how a server proves to a caller that it is closing.
//
// The marks are trailers: Closing on every answer that a draining server gives,
// NotExecuted on a call it refused without running the handler. Each names the
// ID and the Life of the server that set it. A status alone proves nothing: a
// handler that returns the error of its own downstream hands on that server's
// status, code and details included, but not its trailers, and a handler that
// copies trailers through hands on another server's name. So a mark holds only
// if it names the instance that was picked for this very attempt.
package drain

import (
	"errors"
	"net/url"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// The trailers that carry the marks, and the ErrorInfo of a refusal.
const (
	ClosingKey     = "rollcall-closing"
	NotExecutedKey = "rollcall-not-executed"

	Reason = "SERVER_CLOSING"
	Domain = "rollcall"
)

// Closing is the trailer that says: this answer is good, but the server that
// gave it is closing; send it no new calls.
func Closing(id, life string) metadata.MD { return mark(ClosingKey, id, life) }

// NotExecuted is the trailer that says: the server with this ID and Life is
// closing and has not executed this call. It includes Closing.
func NotExecuted(id, life string) metadata.MD {
	return metadata.Join(mark(NotExecutedKey, id, life), Closing(id, life))
}

func mark(key, id, life string) metadata.MD {
	return metadata.Pairs(key, url.Values{"id": {id}, "life": {life}}.Encode())
}

// Marks are what an attempt's trailers prove about the instance it was sent to.
type Marks struct{ Closing, NotExecuted bool }

// Read returns the marks in the trailer that name the picked instance's ID and
// Life. Without a Life nothing can be proven.
func Read(trailer metadata.MD, id, life string) Marks {
	return Marks{Closing: names(trailer[ClosingKey], id, life), NotExecuted: names(trailer[NotExecutedKey], id, life)}
}

// names: exactly one value, and that one names the instance. A server that
// relays another's trailers sends two.
func names(values []string, id, life string) bool {
	if len(values) != 1 || life == "" {
		return false
	}
	v, err := url.ParseQuery(values[0])
	return err == nil && v.Get("id") == id && v.Get("life") == life
}

// Refusal is the status of a refused call: Unavailable, with an ErrorInfo for
// people and logs. It goes with the trailer NotExecuted, which is the proof.
func Refusal(service, id, life string) error {
	st := status.Newf(codes.Unavailable, "%s is closing and has not executed this call", id)
	detailed, err := st.WithDetails(&errdetails.ErrorInfo{
		Reason: Reason, Domain: Domain,
		Metadata: map[string]string{"service": service, "id": id, "life": life},
	})
	if err != nil { // cannot be: ErrorInfo marshals
		return st.Err()
	}
	return detailed.Err()
}

// IsRefusal says whether err looks like a Refusal. It is for people and logs:
// anybody can return such a status, so never retry because of it.
func IsRefusal(err error) bool {
	var se interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &se) {
		return false
	}
	for _, detail := range se.GRPCStatus().Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Reason == Reason && info.Domain == Domain {
			return true
		}
	}
	return false
}
