package resolver

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
)

// DialOptions are dial options that suit connections to instances found in a
// registry. They connect directly, whatever HTTPS_PROXY says, and notice in
// seconds when a server with calls in hand has silently gone: a ping after 10 s
// (gRPC's least) without a sign of life, 2 s for the answer, and on Linux also
// 2 s for bytes that nobody acknowledges. An instance that cannot be reached is
// tried again every 2 s, for 5 s each, where gRPC's default is up to 2 minutes: it
// is called again as soon as if it had been new.
//
// Servers must permit such pings or they close the connection: those built with
// the registrar's ServerOptions do, gRPC's default is one ping in five minutes
// (keepalive.EnforcementPolicy). For others, pass grpc.WithNoProxy alone.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithNoProxy(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
}
