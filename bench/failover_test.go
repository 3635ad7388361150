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

// BenchmarkFailover is what failover adds to a unary call that succeeds at once:
// to a whole call over loopback, and to the part of it that is not gRPC's, where a
// microsecond is not lost in the noise. The same call, with the same deadline of
// its caller, takes turns with and without the interceptor; an operation is a pair
// of slices. What is reported is the median over the pairs; processor time, which
// that of the servers and of the garbage collector is part of, is steadier where
// others use the machine.
func BenchmarkFailover(b *testing.B) {
	for _, bm := range []struct {
		name string
		opts []failmode.Option
	}{
		{"failover", nil},
		{"failover+timeout", []failmode.Option{failmode.WithPerAttemptTimeout(time.Second)}},
	} {
		interceptor := failmode.UnaryClientInterceptor(failmode.Failover, bm.opts...)
		b.Run("call=whole/mode="+bm.name, func(b *testing.B) { whole(b, interceptor) })
		b.Run("call=stub/mode="+bm.name, func(b *testing.B) { stub(b, interceptor) })
	}
}

// unary makes a call with the context it is given.
type unary func(context.Context) error

func whole(b *testing.B, interceptor grpc.UnaryClientInterceptor) {
	servers := newServers(b)
	call := func(opts ...grpc.DialOption) unary {
		client := servers.dial(b, subject{target: plain.target, options: func(_ *memory.Registry, known []registry.Instance) []grpc.DialOption {
			return append(opts, grpc.WithResolvers(fixed(known)), grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.WeightedRoundRobin{})))
		}})
		return func(ctx context.Context) error {
			_, err := client.Get(ctx, &echov1.GetRequest{Key: "key"})
			return err
		}
	}
	added(b, 200, call(), call(grpc.WithChainUnaryInterceptor(interceptor)))
}

// stub has the policy's pick and the end of the call in the place of gRPC.
func stub(b *testing.B, interceptor grpc.UnaryClientInterceptor) {
	const method = echov1.Echo_Get_FullMethodName
	picker := ready(b, named(rollcallWeighted), 3).cc.State().Picker
	invoker := func(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		finish(picked(picker, gbalancer.PickInfo{Ctx: ctx, FullMethodName: method}).Done)
		return nil
	}
	added(b, 10_000,
		func(ctx context.Context) error { return invoker(ctx, method, nil, nil, nil) },
		func(ctx context.Context) error { return interceptor(ctx, method, nil, nil, nil, invoker) })
}

// added reports what call costs more than base, in slices of n calls.
func added(b *testing.B, n int, base, call unary) {
	var wall, cpu, allocs []float64
	for turn := 0; b.Loop(); turn++ {
		var of [2]cost
		for i := range 2 { // the order changes from pair to pair
			which := (i + turn) % 2
			of[which] = perCall(b, n, []unary{base, call}[which])
		}
		wall, cpu = append(wall, of[1].wall-of[0].wall), append(cpu, of[1].cpu-of[0].cpu)
		allocs = append(allocs, of[1].allocs-of[0].allocs)
	}
	b.ReportMetric(median(wall), "added-ns/call")
	b.ReportMetric(median(cpu), "added-cpu-ns/call")
	b.ReportMetric(median(allocs), "added-allocs/call")
}

// perCall is what one of n calls costs that are made one after another.
func perCall(b *testing.B, n int, call unary) cost {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, cpu := time.Now(), cpuTime()
	for range n {
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		if err := call(ctx); err != nil {
			b.Fatal(err)
		}
		cancel()
	}
	wall, used := time.Since(began), cpuTime()-cpu
	runtime.ReadMemStats(&after)
	each := func(total float64) float64 { return total / float64(n) }
	return cost{wall: each(float64(wall)), cpu: each(float64(used)), allocs: each(float64(after.Mallocs - before.Mallocs))}
}
