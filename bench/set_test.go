package bench

import (
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/internal/fakecc"
)

var setSizes = []int{10, 100, 1000, 10_000}

// change is something that happens to a set of ready endpoints.
type change struct {
	name string
	// of returns what makes the change that many times.
	of func(tb testing.TB, bed *bed, n int) func(times int)
}

var changes = []change{
	{"same", func(tb testing.TB, bed *bed, n int) func(int) {
		return bed.alternate(tb, n, nil, nil)
	}},
	{"changed", func(tb testing.TB, bed *bed, n int) func(int) {
		another := func(s *gresolver.State) { bed.policy.add(s, n/2, n, "2", 3) }
		return bed.alternate(tb, n, another, func() { bed.cc.Newest().Ready() })
	}},
	{"reweighted", func(tb testing.TB, bed *bed, n int) func(int) {
		heavier := func(s *gresolver.State) { bed.policy.add(s, n/2, n/2, "1", 7) }
		return bed.alternate(tb, n, heavier, nil)
	}},
	{"flapped", func(_ testing.TB, bed *bed, n int) func(int) {
		sc := bed.cc.Newest()
		return func(times int) {
			for range times {
				flap(sc)
			}
		}
	}},
}

// alternate returns what resolves two sets in turn, fresh ones with fresh
// attributes: that of the bed, and one in which something is different; and then
// does something.
func (bed *bed) alternate(tb testing.TB, n int, different func(*gresolver.State), then func()) func(times int) {
	sets := [2]gresolver.State{bed.policy.resolved(n), bed.policy.resolved(n)}
	if different != nil {
		different(&sets[0])
	}
	turn := 0
	return func(times int) {
		for range times {
			bed.update(tb, sets[turn%2])
			turn++
			if then != nil {
				then()
			}
		}
	}
}

// flap lets a connection break and come back.
func flap(sc *fakecc.SubConn) {
	connects := sc.Connects()
	sc.Set(connectivity.Idle, nil)
	for sc.Connects() == connects { // the policy's goroutine
		runtime.Gosched()
	}
	sc.Ready()
}

// BenchmarkChange makes one change of a set of n ready endpoints: "same" resolves
// the same again, "changed" replaces one by another process and connects that,
// "reweighted" changes the weight of one, "flapped" lets one connection break and
// come back. cpu-ns/op includes what the policy does afterwards, and the garbage
// collector.
func BenchmarkChange(b *testing.B) {
	for _, c := range changes {
		b.Run("change="+c.name, func(b *testing.B) {
			forEachSize(b, setSizes, policy.picks, func(b *testing.B, p policy, n int) {
				bed := ready(b, p, n)
				run := c.of(b, bed, n)
				before, begin := bed.cc.Published(), cpuTime()
				b.ReportAllocs()
				b.ResetTimer()
				run(b.N)
				b.StopTimer()
				time.Sleep(settle)
				b.ReportMetric(float64(cpuTime()-begin)/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(bed.cc.Published()-before)/float64(b.N), "pickers/op")
			})
		})
	}
}

// BenchmarkBringUp resolves n endpoints and connects them one after another, each
// connection a call into the policy.
func BenchmarkBringUp(b *testing.B) {
	forEachSize(b, setSizes, policy.brings, func(b *testing.B, p policy, n int) {
		up := newUpbringing(b, p, n)
		begin := cpuTime()
		b.ReportAllocs()
		for b.Loop() {
			up.bringUp(1)
			b.StopTimer()
			up.settle()
			b.StartTimer()
		}
		b.ReportMetric(float64(cpuTime()-begin)/float64(b.N), "cpu-ns/op")
	})
}

// upbringing brings up the same set again and again.
type upbringing struct {
	tb     testing.TB
	policy policy
	set    gresolver.State
	beds   []*bed
}

func newUpbringing(tb testing.TB, p policy, n int) *upbringing {
	return &upbringing{tb: tb, policy: p, set: p.resolved(n)}
}

func (u *upbringing) bringUp(times int) {
	for range times {
		cc := new(fakecc.ClientConn)
		bed := newBed(u.tb, u.policy, cc, cc)
		bed.bringUp(u.tb, u.set)
		u.beds = append(u.beds, bed)
	}
}

// settle waits for what the policies have put off, and closes them.
func (u *upbringing) settle() {
	time.Sleep(settle)
	for _, bed := range u.beds {
		bed.Close()
	}
	u.beds = nil
}
