package failmode_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
)

// BenchmarkUnary is what a call that succeeds at once pays for the interceptor:
// the difference to "none".
func BenchmarkUnary(b *testing.B) {
	invoker := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	for _, bm := range []struct {
		name string
		call grpc.UnaryClientInterceptor
	}{
		{"none", func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoker(ctx, method, req, reply, cc, opts...)
		}},
		{"failfast", failmode.UnaryClientInterceptor(failmode.Failfast)},
		{"failover", failmode.UnaryClientInterceptor(failmode.Failover)},
		{"failover with observer", failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithObserver(func(failmode.AttemptEvent) {}))},
		{"failover with per-attempt timeout", failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithPerAttemptTimeout(1e9))},
	} {
		b.Run(bm.name, func(b *testing.B) {
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if err := bm.call(ctx, "/shop.Orders/Pay", nil, nil, nil, invoker); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
