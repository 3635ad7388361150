package httpregistry

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// refusal is an answer by which the node did not do what it was asked, without
// being broken: another one may, and nothing speaks against asking it again.
type refusal struct {
	code   int
	reason string
}

func (r *refusal) Error() string { return r.reason }

// oddAnswer is an answer that is not one of a registry: the node is broken, or is
// something else.
type oddAnswer struct{ reason string }

func (o *oddAnswer) Error() string { return o.reason }

func odd(format string, args ...any) error { return &oddAnswer{fmt.Sprintf(format, args...)} }

// unsent is a failure before the node got anything.
type unsent struct{ error }

// undone says whether a request that failed has certainly not been carried out.
func undone(err error) bool {
	_, refused := errors.AsType[*refusal](err)
	_, unsent := errors.AsType[*unsent](err)
	return refused || unsent
}

// unsupported is an answer from which nothing follows about the node.
type unsupported struct{ error }

// start is as much of what a stranger sent as an error shows.
func start(text []byte) []byte {
	const enough = 60
	text = bytes.TrimSpace(text)
	return text[:min(len(text), enough)]
}

// plain is err without what differs from try to try (the client's own port) or
// says nothing here (the method, the URL): the same failure must read the same.
func plain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*os.SyscallError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Err
	}
	if errors.Is(err, io.EOF) {
		return errors.New("connection closed without an answer")
	}
	if strings.Contains(err.Error(), "malformed") { // net/http has no better way to know
		return errors.New("the answer is not HTTP")
	}
	return err
}

// failure is why no node did what was asked.
type failure struct {
	cause   error    // the caller's context, if that had ended
	reasons []string // of each node: in this call, or else the last time
	refused bool     // whoever was asked this time answered that the request is bad
}

func (f *failure) Error() string {
	text := fmt.Sprintf("%v: %s", registry.ErrUnavailable, strings.Join(f.reasons, "; "))
	if f.cause != nil {
		text = fmt.Sprintf("%v: %s", f.cause, text)
	}
	return text
}

func (f *failure) Unwrap() []error {
	return slices.DeleteFunc([]error{registry.ErrUnavailable, f.cause}, func(err error) bool { return err == nil })
}

func (s *nodes) failure(failed map[*node]error, cause error) *failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &failure{cause: cause, refused: len(failed) > 0}
	for _, n := range s.list {
		err := cmp.Or(failed[n], n.err)
		if r, ok := errors.AsType[*refusal](err); failed[n] != nil && (!ok || r.code != wire.CodeBadRequest) {
			f.refused = false
		}
		f.reasons = append(f.reasons, fmt.Sprintf("%s: %v", n.host, cmp.Or(err, errors.New("not tried"))))
	}
	return f
}
