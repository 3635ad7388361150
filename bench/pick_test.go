package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	gbalancer "google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/pick"
)

var pickSizes = []int{10, 100, 1000, 10_000}

// call is what is measured of a pick.
type call struct {
	name     string
	done     bool // also the Done that every pick is followed by
	parallel bool // on all cores
}

var (
	pickSerial   = call{"call=pick/mode=serial", false, false}
	pickParallel = call{"call=pick/mode=parallel", false, true}
	bothSerial   = call{"call=pick+done/mode=serial", true, false}
	bothParallel = call{"call=pick+done/mode=parallel", true, true}
	calls        = []call{pickSerial, pickParallel, bothSerial, bothParallel}
)

// BenchmarkPick is one pick among n ready instances.
func BenchmarkPick(b *testing.B) {
	forEachSize(b, pickSizes, policy.picks, func(b *testing.B, p policy, n int) {
		picker := ready(b, p, n).cc.State().Picker
		for _, c := range calls {
			b.Run(c.name, func(b *testing.B) {
				b.ReportAllocs()
				c.of(picker)(b.N)
			})
		}
	})
}

// BenchmarkPickWithRecord is a pick and its Done for a call that has a record, as
// failmode gives it one, the record included.
func BenchmarkPickWithRecord(b *testing.B) {
	forEachSize(b, []int{100}, policy.picks, func(b *testing.B, p policy, n int) {
		picker := ready(b, p, n).cc.State().Picker
		b.ReportAllocs()
		for b.Loop() {
			info := info()
			info.Ctx, _ = pick.NewContext(info.Ctx)
			finish(picked(picker, info))
		}
	})
}

// of returns what makes that many calls with this picker.
func (c call) of(picker gbalancer.Picker) func(times int) {
	info := info()
	one := func(times int) {
		for range times {
			picked(picker, info)
		}
	}
	if c.done {
		one = func(times int) {
			for range times {
				finish(picked(picker, info))
			}
		}
	}
	if c.parallel {
		return func(times int) { onAllCores(times, one) }
	}
	return one
}

// onAllCores lets each core do its part of the times, all from the same moment on.
func onAllCores(times int, do func(times int)) {
	cores := runtime.GOMAXPROCS(0)
	var missing atomic.Int32
	missing.Store(int32(cores))
	var running sync.WaitGroup
	for range cores {
		running.Go(func() {
			missing.Add(-1)
			for missing.Load() > 0 {
			}
			do((times + cores - 1) / cores)
		})
	}
	running.Wait()
}

func picked(picker gbalancer.Picker, info gbalancer.PickInfo) gbalancer.PickResult {
	result, err := picker.Pick(info)
	if err != nil {
		panic(err)
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

func forEachSize(b *testing.B, sizes []int, measured func(policy, int) bool, run func(b *testing.B, p policy, n int)) {
	for _, n := range sizes {
		for _, p := range policies {
			b.Run(fmt.Sprintf("policy=%s/n=%d", p.name, n), func(b *testing.B) {
				if !measured(p, n) {
					b.Skip("takes a minute: run with -args -slow")
				}
				run(b, p, n)
			})
		}
	}
}
