package failmode

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
)

// UnaryClientInterceptor makes the attempts of unary calls in this mode. An
// unknown mode is Failfast.
func UnaryClientInterceptor(mode Mode, opts ...Option) grpc.UnaryClientInterceptor {
	settings := newConfig(mode, opts)
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		c := settings.forCall(opts)
		if !c.plain {
			return c.special(ctx, method, req, reply, cc, invoker, opts)
		}
		first := c.policy.First(ctx, method)
		if err := invoker(first.Context, method, req, reply, cc, opts...); err != nil {
			return c.resume(&first, err, method, req, reply, cc, invoker, opts)
		}
		first.Succeed(&c.policy, method)
		return nil
	}
}

// resume makes the attempts after the first one, which has failed with err. It is not
// inlined, so that what it needs is not on the stack during that.
//
//go:noinline
func (c *config) resume(first *attempt.First, err error, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	u := unary{c, method, req, reply, cc, invoker}
	call := first.AsCall(&c.policy, method, cc, opts)
	return end(call, call.Resume(err, u.try))
}

// special makes a call that is more than attempts one after another, or whose attempts
// have a time limit.
//
//go:noinline
func (c *config) special(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	u := unary{c, method, req, reply, cc, invoker}
	switch message, ok := reply.(proto.Message); {
	case c.mode == Broadcast:
		return u.broadcast(ctx, opts)
	case c.mode == Failsafe:
		c.lose(method, reply, u.call(ctx, opts))
		return nil
	case ok && c.policy.Hedging != nil:
		return u.hedged(ctx, message, opts)
	default:
		return u.call(ctx, opts)
	}
}

// unary is a unary call.
type unary struct {
	*config
	method     string
	req, reply any
	cc         *grpc.ClientConn
	invoker    grpc.UnaryInvoker
}

// call makes attempts one after another.
func (u *unary) call(ctx context.Context, opts []grpc.CallOption) error {
	var call attempt.Call
	call.Start(ctx, u.method, &u.policy, u.cc, opts, false)
	return u.run(&call)
}

// run makes those of a call that has started.
func (u *unary) run(call *attempt.Call) error { return end(call, call.Do(u.try)) }

// try makes an attempt.
func (u *unary) try(ctx context.Context, opts []grpc.CallOption) error {
	return u.invoker(ctx, u.method, u.req, u.reply, u.cc, opts...)
}

// end ends a call whose last attempt has ended with err, and returns what its caller is
// told.
func end(call *attempt.Call, err error) error {
	if err != nil {
		return failure(call, err)
	}
	call.Succeed()
	return nil
}

// lose logs the error of a call that nobody wants to know of.
func (c *config) lose(method string, reply any, err error) {
	if err == nil {
		return
	}
	if message, ok := reply.(proto.Message); ok {
		proto.Reset(message)
	}
	logger := c.logger
	if logger == nil {
		logger = slog.Default()
	}
	logger.Warn("failmode: a call has failed and its caller is not told", "mode", c.mode, "method", method, "error", err)
}
