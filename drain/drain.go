// Package drain is how a server proves to a caller that it is closing.
//
// The marks are trailers: Closing on every answer that a draining server gives,
// NotExecuted on a call it refused without running the handler. Each names the
// ID and the Life of the server that set it. A status alone proves nothing: a
// handler that returns the error of its own downstream hands on that server's
// status, code and details included, but not its trailers, and a handler that
// copies trailers through hands on another server's name. So a mark holds only
// if it names the instance that was picked for this very attempt.
//
// A server can also advise against another attempt (see ReadRetry), which needs
// no proof.
package drain

import (
	"errors"
	"net/url"
	"slices"

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

// Answered is the trailer of what a handler answered on a closing server: Closing,
// and a void value that spoils whatever NotExecuted the handler copied from
// elsewhere, were it this server's own answer to another call.
func Answered(id, life string) metadata.MD {
	return metadata.Join(Closing(id, life), metadata.Pairs(NotExecutedKey, "no"))
}

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
//
// Closing says something of the server, which is true whoever hands it on: any
// one value that names the instance will do. NotExecuted says something of one
// call: it must be the only value, because a handler that relays another call's
// trailers has executed this one, and its server then adds a value of its own.
func Read(trailer metadata.MD, id, life string) Marks {
	named := func(value string) bool { return names(value, id, life) }
	notExecuted := trailer[NotExecutedKey]
	return Marks{
		Closing:     slices.ContainsFunc(trailer[ClosingKey], named),
		NotExecuted: len(notExecuted) == 1 && named(notExecuted[0]),
	}
}

func names(value, id, life string) bool {
	v, err := url.ParseQuery(value)
	return err == nil && life != "" && v.Get("id") == id && v.Get("life") == life
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
