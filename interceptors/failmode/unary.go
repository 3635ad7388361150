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
			u := unary{c, method, req, reply, cc, invoker}
			return u.special(ctx, opts)
		}
		first := c.policy.First(ctx, method)
		if err := invoker(first.Context, method, req, reply, cc, opts...); err != nil {
			u := unary{c, method, req, reply, cc, invoker}
			return u.resume(first.Call(&c.policy, method, cc, opts), err)
		}
		first.Succeed(&c.policy, method)
		return nil
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

// special makes a call that is not plain.
func (u *unary) special(ctx context.Context, opts []grpc.CallOption) error {
	switch message, ok := u.reply.(proto.Message); {
	case u.mode == Broadcast:
		return u.broadcast(ctx, opts)
	case u.mode == Failsafe:
		u.lose(u.method, u.reply, u.call(ctx, opts))
		return nil
	case ok && u.policy.Hedging != nil:
		return u.hedged(ctx, message, opts)
	default:
		return u.call(ctx, opts)
	}
}

// call makes a call that is attempts one after another.
func (u *unary) call(ctx context.Context, opts []grpc.CallOption) error {
	var call attempt.Call
	call.Start(ctx, u.method, &u.policy, u.cc, opts, false)
	return u.run(&call)
}

// run makes attempts one after another.
func (u *unary) run(call *attempt.Call) error { return end(call, call.Do(u.try)) }

// resume makes those that follow one that has failed with err.
func (u *unary) resume(call *attempt.Call, err error) error {
	return end(call, call.Resume(err, u.try))
}

// try makes an attempt.
func (u *unary) try(ctx context.Context, opts []grpc.CallOption) error {
	return u.invoker(ctx, u.method, u.req, u.reply, u.cc, opts...)
}

// end returns what a call ends with whose attempts have ended with err.
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
