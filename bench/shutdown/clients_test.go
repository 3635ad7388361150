package shutdown

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
	"github.com/rollcall-go/rollcall/resolver"
)

// poll is how often clients look into the registry.
const poll = 500 * time.Millisecond

// caller is a kind of client.
type caller struct {
	name string
	dial func(reg *httpregistry.Client) []grpc.DialOption
}

const roundRobin = `{"loadBalancingConfig": [{"round_robin": {}}]}`

var (
	// plain is what gRPC brings, behind a resolver that polls.
	plain = caller{"round_robin", func(reg *httpregistry.Client) []grpc.DialOption { return polling(reg, roundRobin) }}
	// retrying is plain with gRPC's own retries, which also repeat what may have
	// executed.
	retrying = caller{"round_robin, retryPolicy", func(reg *httpregistry.Client) []grpc.DialOption {
		return polling(reg, `{"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [{"name": [{}], "retryPolicy":
			{"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`)
	}}
	// knowing is plain and repeats a call that was refused with the special failure.
	knowing = caller{"round_robin, refused again elsewhere", func(reg *httpregistry.Client) []grpc.DialOption {
		return append(polling(reg, roundRobin), grpc.WithUnaryInterceptor(againIfRefused))
	}}
	failfast = caller{"rollcall, failfast", func(reg *httpregistry.Client) []grpc.DialOption { return rollcallClient(reg, failmode.Failfast) }}
	failover = caller{"rollcall, failover", func(reg *httpregistry.Client) []grpc.DialOption { return rollcallClient(reg, failmode.Failover) }}
	// resolved is gRPC's policy behind rollcall's resolver.
	resolved = caller{"round_robin, rollcall's resolver", func(reg *httpregistry.Client) []grpc.DialOption {
		return []grpc.DialOption{grpc.WithResolvers(resolver.NewBuilder(reg)), grpc.WithDefaultServiceConfig(roundRobin)}
	}}
)

func polling(reg *httpregistry.Client, config string) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithResolvers(pollBuilder{reg}), grpc.WithDefaultServiceConfig(config)}
}

func rollcallClient(reg *httpregistry.Client, mode failmode.Mode) []grpc.DialOption {
	return append(resolver.DialOptions(),
		grpc.WithResolvers(resolver.NewBuilder(reg)),
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.RoundRobin{})),
		grpc.WithUnaryInterceptor(failmode.UnaryClientInterceptor(mode)))
}

// againIfRefused tries a refused call three times in all.
func againIfRefused(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) (err error) {
	for range 3 {
		if err = invoke(ctx, method, req, reply, cc, opts...); err == nil || err.Error() != errClosing.Error() {
			return err
		}
	}
	return err
}

// pollBuilder builds resolvers that look into the registry every now and then, as
// the usual home-made one does.
type pollBuilder struct{ reg *httpregistry.Client }

func (pollBuilder) Scheme() string { return resolver.Scheme }

func (b pollBuilder) Build(target gresolver.Target, cc gresolver.ClientConn, _ gresolver.BuildOptions) (gresolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &pollResolver{cancel: cancel}
	r.polling.Go(func() { r.poll(ctx, b.reg, target.Endpoint(), cc) })
	return r, nil
}

type pollResolver struct {
	cancel  context.CancelFunc
	polling sync.WaitGroup
}

func (r *pollResolver) poll(ctx context.Context, reg *httpregistry.Client, service string, cc gresolver.ClientConn) {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		var state gresolver.State
		snap, err := reg.Fetch(ctx, service)
		for _, inst := range snap.Instances {
			state.Addresses = append(state.Addresses, gresolver.Address{Addr: inst.Addrs[0]})
		}
		if err == nil {
			_ = cc.UpdateState(state)
		} else {
			cc.ReportError(err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (*pollResolver) ResolveNow(gresolver.ResolveNowOptions) {}

func (r *pollResolver) Close() {
	r.cancel()
	r.polling.Wait()
}
