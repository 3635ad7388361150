package bench

import (
	"context"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	gbalancer "google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
)

// addedModes is what is added to a call: failover, and what no failover can do
// without, to compare with.
var addedModes = []struct {
	name        string
	interceptor grpc.UnaryClientInterceptor
}{
	{"nothing", invoke},
	{"failover", failmode.UnaryClientInterceptor(failmode.Failover)},
	{"timeout", invokeWithTimeout},
	{"failover+timeout", failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithPerAttemptTimeout(time.Second))},
}

// BenchmarkFailover is what failover adds to a unary call that succeeds at once:
// to a whole call over loopback, and to the part of it that is not gRPC's, where a
// microsecond is not lost in the noise. The same call, with the same deadline of
// its caller, takes turns with and without the interceptor; an operation is a pair
// of slices. What is reported is the median over the pairs; processor time, which
// that of the servers and of the garbage collector is part of, is steadier where
// others use the machine.
func BenchmarkFailover(b *testing.B) {
	for _, mode := range addedModes {
		for _, call := range addedTo {
			b.Run("call="+call.name+"/mode="+mode.name, func(b *testing.B) {
				a := call.prepare(b, mode.interceptor)
				for b.Loop() {
					a.turn(b)
				}
				b.ReportMetric(median(a.wall), "added-ns/call")
				b.ReportMetric(median(a.cpu), "added-cpu-ns/call")
				b.ReportMetric(median(a.allocs), "added-allocs/call")
			})
		}
	}
}

func invoke(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoker(ctx, method, req, reply, cc, opts...)
}

func invokeWithTimeout(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return invoker(ctx, method, req, reply, cc, opts...)
}

// unary makes a call with the context it is given.
type unary func(context.Context) error

// addedTo is what something is added to.
var addedTo = []struct {
	name    string
	prepare func(testing.TB, grpc.UnaryClientInterceptor) *addition
}{{"whole", whole}, {"stub", stub}}

// whole is a call over loopback.
func whole(tb testing.TB, interceptor grpc.UnaryClientInterceptor) *addition {
	servers := newServers(tb)
	call := func(opts ...grpc.DialOption) unary {
		client := servers.dial(tb, subject{target: plain.target, options: func(_ *memory.Registry, known []registry.Instance) []grpc.DialOption {
			return append(opts, grpc.WithResolvers(fixed(known)), grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.WeightedRoundRobin{})))
		}})
		return func(ctx context.Context) error {
			_, err := client.Get(ctx, &echov1.GetRequest{Key: "key"})
			return err
		}
	}
	return &addition{slice: 200, calls: [2]unary{call(), call(grpc.WithChainUnaryInterceptor(interceptor))}}
}

// stub has the policy's pick and the end of the call in the place of gRPC.
func stub(tb testing.TB, interceptor grpc.UnaryClientInterceptor) *addition {
	const method = echov1.Echo_Get_FullMethodName
	picker := ready(tb, named(rollcallWeighted), 3).cc.State().Picker
	invoker := func(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		finish(picked(picker, gbalancer.PickInfo{Ctx: ctx, FullMethodName: method}).Done)
		return nil
	}
	return &addition{slice: 10_000, calls: [2]unary{
		func(ctx context.Context) error { return invoker(ctx, method, nil, nil, nil) },
		func(ctx context.Context) error { return interceptor(ctx, method, nil, nil, nil, invoker) },
	}}
}

// addition is what one call costs more than another.
type addition struct {
	slice             int // so many calls take turns
	calls             [2]unary
	turns             int
	wall, cpu, allocs []float64 // for each call, of each turn
}

// turn makes a slice of calls of each; their order changes from turn to turn.
func (a *addition) turn(tb testing.TB) {
	var of [2]cost
	for i := range of {
		which := (i + a.turns) % 2
		of[which] = perCall(tb, a.slice, a.calls[which])
	}
	a.turns++
	a.wall, a.cpu = append(a.wall, of[1].wall-of[0].wall), append(a.cpu, of[1].cpu-of[0].cpu)
	a.allocs = append(a.allocs, of[1].allocs-of[0].allocs)
}

// perCall is what one of n calls costs that are made one after another.
func perCall(tb testing.TB, n int, call unary) cost {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, cpu := time.Now(), cpuTime()
	for range n {
		ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
		if err := call(ctx); err != nil {
			tb.Fatal(err)
		}
		cancel()
	}
	wall, used := time.Since(began), cpuTime()-cpu
	runtime.ReadMemStats(&after)
	each := func(total float64) float64 { return total / float64(n) }
	return cost{wall: each(float64(wall)), cpu: each(float64(used)), allocs: each(float64(after.Mallocs - before.Mallocs))}
}
