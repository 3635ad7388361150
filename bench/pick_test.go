package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gbalancer "google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
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
				took := calling{c, picker}.do(b.N)
				b.ReportMetric(float64(took)/float64(b.N), "ns/op")
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
			finish(picked(picker, info).Done)
		}
	})
}

// calling is a call that is made with a picker.
type calling struct {
	call
	picker gbalancer.Picker
}

// do makes so many calls, all cores their part from the same moment on, and returns how
// long the slowest core took for what is measured of them.
func (c calling) do(times int) time.Duration {
	cores := 1
	if c.parallel {
		cores = runtime.GOMAXPROCS(0)
	}
	measured := c.alone
	if c.done {
		measured = c.withDone
	}
	took := make([]time.Duration, cores)
	var missing atomic.Int32
	missing.Store(int32(cores))
	var running sync.WaitGroup
	for core := range took {
		running.Go(func() {
			missing.Add(-1)
			for missing.Load() > 0 {
			}
			took[core] = measured((times + cores - 1) / cores)
		})
	}
	running.Wait()
	return slices.Max(took)
}

func (c calling) withDone(times int) time.Duration {
	info, begin := info(), time.Now()
	for range times {
		finish(picked(c.picker, info).Done)
	}
	return time.Since(begin)
}

// alone picks as often as there is room for the Dones in the core's own cache, and calls
// these before it goes on: memory is slower than a pick, and a heap full of Dones is slow
// to mark and seldom collected.
func (c calling) alone(times int) (took time.Duration) {
	var dones [512]func(gbalancer.DoneInfo)
	info := info()
	for times > 0 {
		room := dones[:min(times, len(dones))]
		begin := time.Now()
		for i := range room {
			room[i] = picked(c.picker, info).Done
		}
		took += time.Since(begin)
		for _, done := range room {
			finish(done)
		}
		times -= len(room)
	}
	return took
}

func picked(picker gbalancer.Picker, info gbalancer.PickInfo) gbalancer.PickResult {
	result, err := picker.Pick(info)
	if err != nil {
		panic(err)
	}
	return result
}

func finish(done func(gbalancer.DoneInfo)) {
	if done != nil {
		done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
	}
}

// info is what gRPC asks with; a call's context is some levels deep.
func info() gbalancer.PickInfo {
	type key int
	ctx := context.Background()
	for level := range 3 {
		ctx = context.WithValue(ctx, key(level), level)
	}
	return gbalancer.PickInfo{Ctx: ctx, FullMethodName: echov1.Echo_Get_FullMethodName}
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
