package bench

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/internal/fakecc"
)

// settle is longer than any policy puts a change off.
const settle = 10 * time.Millisecond

// BenchmarkBringUp resolves n endpoints and connects them one after another, each
// connection a call into the policy. cpu-ns/op includes what the policy does
// afterwards, and the garbage collector.
func BenchmarkBringUp(b *testing.B) {
	forEachSize(b, []int{10, 100, 1000, 10_000}, func(b *testing.B, p policy, n int) {
		if p.most > 0 && n > p.most && !*slow {
			b.Skip("takes a minute: run with -args -slow")
		}
		eps := endpoints(n)
		b.ReportAllocs()
		begin := cpuTime()
		for b.Loop() {
			cc := new(fakecc.ClientConn)
			bed := newBed(b, p, cc, cc)
			bed.update(b, eps)
			for _, sc := range cc.SubConns() {
				sc.Ready()
			}
			b.StopTimer()
			time.Sleep(settle)
			bed.Close()
			b.StartTimer()
		}
		b.ReportMetric(float64(cpuTime()-begin)/float64(b.N), "cpu-ns/op")
	})
}

// BenchmarkSameSet resolves n endpoints that are known already, in fresh slices
// with fresh attributes.
func BenchmarkSameSet(b *testing.B) {
	forEachSize(b, []int{10, 1000, 10_000}, func(b *testing.B, p policy, n int) {
		bed := ready(b, p, n)
		sets := [2][]gresolver.Endpoint{endpoints(n), endpoints(n)}
		before, turn := bed.cc.Published(), 0
		b.ReportAllocs()
		for b.Loop() {
			bed.update(b, sets[turn%2])
			turn++
		}
		b.ReportMetric(float64(bed.cc.Published()-before)/float64(b.N), "pickers/op")
	})
}

// BenchmarkOneChanged replaces one of n endpoints by another process, and
// connects that.
func BenchmarkOneChanged(b *testing.B) {
	forEachSize(b, []int{10, 1000, 10_000}, func(b *testing.B, p policy, n int) {
		bed := ready(b, p, n)
		sets := [2][]gresolver.Endpoint{endpoints(n), endpoints(n)}
		sets[0][n/2] = endpointOf(n, "2", 3)
		turn := 0
		b.ReportAllocs()
		for b.Loop() {
			bed.update(b, sets[turn%2])
			bed.cc.Newest().Ready()
			turn++
		}
	})
}

// BenchmarkOneReweighted changes the weight of one of n endpoints.
func BenchmarkOneReweighted(b *testing.B) {
	forEachSize(b, []int{10, 1000, 10_000}, func(b *testing.B, p policy, n int) {
		bed := ready(b, p, n)
		sets := [2][]gresolver.Endpoint{endpoints(n), endpoints(n)}
		sets[0][n/2] = endpointOf(n/2, "1", 7)
		turn := 0
		b.ReportAllocs()
		for b.Loop() {
			bed.update(b, sets[turn%2])
			turn++
		}
	})
}

// BenchmarkOneFlapped lets one of n connections break and come back.
func BenchmarkOneFlapped(b *testing.B) {
	forEachSize(b, []int{10, 1000, 10_000}, func(b *testing.B, p policy, n int) {
		sc := ready(b, p, n).cc.Newest()
		b.ReportAllocs()
		for b.Loop() {
			connects := sc.Connects()
			sc.Set(connectivity.Idle, nil)
			for sc.Connects() == connects { // the policy's goroutine
				runtime.Gosched()
			}
			sc.Ready()
		}
	})
}

func forEachSize(b *testing.B, sizes []int, run func(b *testing.B, p policy, n int)) {
	for _, n := range sizes {
		for _, p := range policies {
			b.Run(fmt.Sprintf("policy=%s/n=%d", p.name, n), func(b *testing.B) { run(b, p, n) })
		}
	}
}

// cpuTime is the processor time of this process so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
