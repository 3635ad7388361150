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
		u := unary{c, method, req, reply, cc, invoker}
		if c.policy.Hedging == nil && c.mode != Broadcast && c.mode != Failsafe {
			return u.call(ctx, opts)
		}
		return u.special(ctx, opts)
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

// special makes a call that is more than attempts one after another.
func (u *unary) special(ctx context.Context, opts []grpc.CallOption) error {
	switch message, ok := u.reply.(proto.Message); {
	case u.mode == Broadcast:
		return u.broadcast(ctx, opts)
	case u.mode == Failsafe:
		u.lose(u.method, u.reply, u.call(ctx, opts))
		return nil
	case ok:
		return u.hedged(ctx, message, opts)
	default:
		return u.call(ctx, opts)
	}
}

// call makes attempts one after another.
func (u *unary) call(ctx context.Context, opts []grpc.CallOption) error {
	var call attempt.Call
	call.Start(ctx, u.method, &u.policy, u.cc, opts, false)
	return u.run(&call)
}

// run makes the first attempt from here, and not from Do, since most calls need no
// more: what is on the stack meanwhile may be what makes it grow.
func (u *unary) run(call *attempt.Call) error {
	ctx, opts := call.First()
	err := u.invoker(ctx, u.method, u.req, u.reply, u.cc, opts...)
	if err != nil {
		err = call.Resume(err, func(ctx context.Context, opts []grpc.CallOption) error {
			return u.invoker(ctx, u.method, u.req, u.reply, u.cc, opts...)
		})
	}
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
