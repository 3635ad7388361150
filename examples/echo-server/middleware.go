package main

import (
	"context"
	"log/slog"
	"runtime/debug"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// middleware is what a server commonly has around its handlers; rollcall leaves
// that to go-grpc-middleware. A panic costs one call. With verbose every call is
// logged, except health checks.
func middleware(logger *slog.Logger, verbose bool) []grpc.ServerOption {
	recovered := recovery.WithRecoveryHandlerContext(func(ctx context.Context, cause any) error {
		logger.ErrorContext(ctx, "handler panicked", "cause", cause, "stack", string(debug.Stack()))
		return status.Errorf(codes.Internal, "handler panicked: %v", cause)
	})
	unary := []grpc.UnaryServerInterceptor{recovery.UnaryServerInterceptor(recovered)}
	stream := []grpc.StreamServerInterceptor{recovery.StreamServerInterceptor(recovered)}
	if verbose {
		calls := selector.MatchFunc(func(_ context.Context, call interceptors.CallMeta) bool {
			return call.Service != grpc_health_v1.Health_ServiceDesc.ServiceName
		})
		log := logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
			logger.Log(ctx, slog.Level(level), msg, fields...)
		})
		unary = append([]grpc.UnaryServerInterceptor{selector.UnaryServerInterceptor(logging.UnaryServerInterceptor(log), calls)}, unary...)
		stream = append([]grpc.StreamServerInterceptor{selector.StreamServerInterceptor(logging.StreamServerInterceptor(log), calls)}, stream...)
	}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...)}
}
