package bench

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

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
				calling := c.with(picker, newUnfinished())
				calling.prepare(b.N)
				b.ReportAllocs()
				b.ResetTimer()
				calling.do(b.N)
				b.StopTimer()
				calling.finish()
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
	dones  unfinished
}

// unfinished is the Done of picks that are measured without: a policy may take calls
// that never end for a sign of trouble. Each core has its own.
type unfinished [][]func(gbalancer.DoneInfo)

func newUnfinished() unfinished { return make(unfinished, runtime.GOMAXPROCS(0)) }

// with returns c, made with picker. What is measured at different times may share room.
func (c call) with(picker gbalancer.Picker, room unfinished) *calling {
	if !c.parallel {
		room = room[:1]
	}
	return &calling{call: c, picker: picker, dones: room}
}

// prepare makes room for what so many calls leave behind.
func (c *calling) prepare(times int) {
	if !c.done {
		for core := range c.dones {
			c.dones[core] = slices.Grow(c.dones[core], c.each(times))
		}
	}
}

func (c *calling) each(times int) int { return (times + len(c.dones) - 1) / len(c.dones) }

// do makes so many calls, all cores their part from the same moment on.
func (c *calling) do(times int) {
	times = c.each(times)
	if !c.parallel {
		c.on(0, times)
		return
	}
	var missing atomic.Int32
	missing.Store(int32(len(c.dones)))
	var running sync.WaitGroup
	for core := range c.dones {
		running.Go(func() {
			missing.Add(-1)
			for missing.Load() > 0 {
			}
			c.on(core, times)
		})
	}
	running.Wait()
}

func (c *calling) on(core, times int) {
	info := info()
	if c.done {
		for range times {
			finish(picked(c.picker, info).Done)
		}
		return
	}
	dones := c.dones[core]
	for range times {
		dones = append(dones, picked(c.picker, info).Done)
	}
	c.dones[core] = dones
}

// finish calls what do has left to be called.
func (c *calling) finish() {
	for core, dones := range c.dones {
		for _, done := range dones {
			finish(done)
		}
		c.dones[core] = dones[:0]
	}
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
