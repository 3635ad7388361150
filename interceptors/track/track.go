// Package track puts the call's record (package pick) into the context and does
// nothing else. Put it outermost where something else than failmode retries:
// gRPC's own retryPolicy, go-grpc-middleware's retry. All its attempts then go
// to instances that the call has not tried, as long as there is one.
//
//	grpc.WithChainUnaryInterceptor(track.UnaryClientInterceptor(), retry.UnaryClientInterceptor(retry.WithMax(3)))
//
// It needs the rollcall policy. With failmode outermost it is not needed.
package track

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/pick"
)

// Trace is a call that has ended.
type Trace struct {
	// Method is the full method, like "/shop.Orders/Get".
	Method string
	// Attempts are all attempts of the call, whoever made them.
	Attempts []pick.Attempt
	// Err is what the caller is told; nil for success.
	Err error
	// Duration is from the call to its end.
	Duration time.Duration
}

// Option sets up an interceptor.
type Option func(*config)

type config struct{ observe func(Trace) }

// WithObserver has f told of every call when it has ended, in the goroutine of
// the call. A stream ends when RecvMsg says so; one that the caller abandons is
// not told of.
func WithObserver(f func(Trace)) Option { return func(c *config) { c.observe = f } }

func newConfig(opts []Option) (c config) {
	for _, o := range opts {
		o(&c)
	}
	return c
}

// UnaryClientInterceptor puts the record into the context of unary calls.
func UnaryClientInterceptor(opts ...Option) grpc.UnaryClientInterceptor {
	c := newConfig(opts)
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, record := pick.NewCall(ctx, method)
		record.SetUnary()
		if c.observe == nil {
			return invoker(ctx, method, req, reply, cc, opts...)
		}
		started := time.Now()
		err := invoker(ctx, method, req, reply, cc, opts...)
		c.observe(Trace{Method: method, Attempts: record.Attempts(), Err: err, Duration: time.Since(started)})
		return err
	}
}

// StreamClientInterceptor puts the record into the context of streams.
func StreamClientInterceptor(opts ...Option) grpc.StreamClientInterceptor {
	c := newConfig(opts)
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, record := pick.NewCall(ctx, method)
		if c.observe == nil {
			return streamer(ctx, desc, cc, method, opts...)
		}
		started := time.Now()
		end := func(err error) {
			c.observe(Trace{Method: method, Attempts: record.Attempts(), Err: err, Duration: time.Since(started)})
		}
		s, err := streamer(ctx, desc, cc, method, opts...)
		if err != nil {
			end(err)
			return nil, err
		}
		return &stream{ClientStream: s, last: !desc.ServerStreams, end: end}, nil
	}
}

// stream tells the end of a stream.
type stream struct {
	grpc.ClientStream
	last bool // the first message is the last one
	end  func(error)
	told bool // used by RecvMsg only
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if !s.told && (err != nil || s.last) {
		s.told = true
		if err == io.EOF {
			s.end(nil)
		} else {
			s.end(err)
		}
	}
	return err
}
