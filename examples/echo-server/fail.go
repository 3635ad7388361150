package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/drain"
)

// failure is which share of the calls fails, and how.
type failure struct {
	share float64
	with  func(context.Context) error
}

// What -fail can name besides status codes: a handler that panics, one that never
// returns, whatever its context says, and one that hands on what its own downstream
// said when that was closing.
const (
	panics            = "PANIC"
	hangs             = "HANG"
	closingDownstream = drain.Reason
)

// parseFailure reads CODE or CODE:SHARE; "" never fails.
func parseFailure(s string) (failure, error) {
	if s == "" {
		return failure{}, nil
	}
	name, share, shared := strings.Cut(s, ":")
	f := failure{share: 1}
	if shared {
		var err error
		if f.share, err = strconv.ParseFloat(share, 64); err != nil || !(f.share >= 0 && f.share <= 1) {
			return failure{}, fmt.Errorf("share %q is not a number from 0 to 1", share)
		}
	}
	switch code, ok := parseCode(name); {
	case ok:
		err := status.Errorf(code, "failed as -fail %s asks", s)
		f.with = func(context.Context) error { return err }
	case name == panics:
		f.with = func(context.Context) error { panic("as -fail " + s + " asks") }
	case name == hangs:
		f.with = func(context.Context) error { select {} }
	case name == closingDownstream:
		f.with = relayRefusal
	default:
		return failure{}, fmt.Errorf("%q is not a status code such as Unavailable, nor %s, %s or %s", name, panics, hangs, closingDownstream)
	}
	return f, nil
}

// relayRefusal does what a proxy does that copies all it gets from a closing
// downstream, trailers included. It proves nothing about this server.
func relayRefusal(ctx context.Context) error {
	const id, life = "downstream", "its-life"
	if err := grpc.SetTrailer(ctx, drain.NotExecuted(id, life)); err != nil {
		return err
	}
	return drain.Refusal("downstream", id, life)
}

// parseCode finds the code of an error by its name in Go (NotFound) or in the
// specification (NOT_FOUND).
func parseCode(name string) (codes.Code, bool) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		if strings.EqualFold(code.String(), name) {
			return code, true
		}
	}
	var code codes.Code
	err := code.UnmarshalJSON([]byte(strconv.Quote(name)))
	return code, err == nil && code != codes.OK
}

// roll returns the error this call fails with, or nil.
func (f failure) roll(ctx context.Context) error {
	if f.share == 0 || rand.Float64() >= f.share {
		return nil
	}
	return f.with(ctx)
}
