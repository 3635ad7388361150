package bench

import (
	"context"
	"fmt"
	"testing"

	gbalancer "google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/pick"
)

// BenchmarkPick is one pick among n ready instances, and the call of Done that
// every pick is followed by.
func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 100, 1000, 10_000} {
		for _, p := range policies {
			b.Run(fmt.Sprintf("policy=%s/n=%d", p.name, n), func(b *testing.B) {
				picker := ready(b, p, n).cc.State().Picker
				pick := func(info gbalancer.PickInfo) { picked(b, picker, info) }
				both := func(info gbalancer.PickInfo) { finish(picked(b, picker, info)) }
				b.Run("call=pick/mode=serial", func(b *testing.B) { serial(b, pick) })
				b.Run("call=pick/mode=parallel", func(b *testing.B) { parallel(b, pick) })
				b.Run("call=pick+done/mode=serial", func(b *testing.B) { serial(b, both) })
				b.Run("call=pick+done/mode=parallel", func(b *testing.B) { parallel(b, both) })
			})
		}
	}
}

// BenchmarkPickWithRecord is a pick and its Done for a call that has a record, as
// failmode gives it one, the record included.
func BenchmarkPickWithRecord(b *testing.B) {
	for _, p := range policies {
		b.Run("policy="+p.name+"/n=100", func(b *testing.B) {
			picker := ready(b, p, 100).cc.State().Picker
			serial(b, func(info gbalancer.PickInfo) {
				info.Ctx, _ = pick.NewContext(info.Ctx)
				finish(picked(b, picker, info))
			})
		})
	}
}

func picked(b *testing.B, picker gbalancer.Picker, info gbalancer.PickInfo) gbalancer.PickResult {
	result, err := picker.Pick(info)
	if err != nil {
		b.Error(err)
	}
	return result
}

func finish(result gbalancer.PickResult) {
	if result.Done != nil {
		result.Done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
	}
}

// info is what gRPC asks with; a call's context is some levels deep.
func info() gbalancer.PickInfo {
	type key int
	ctx := context.Background()
	for level := range 3 {
		ctx = context.WithValue(ctx, key(level), level)
	}
	return gbalancer.PickInfo{Ctx: ctx, FullMethodName: "/echo.v1.Echo/Get"}
}

func serial(b *testing.B, call func(gbalancer.PickInfo)) {
	info := info()
	b.ReportAllocs()
	for b.Loop() {
		call(info)
	}
}

func parallel(b *testing.B, call func(gbalancer.PickInfo)) {
	info := info()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			call(info)
		}
	})
}
