package balancer

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	estats "google.golang.org/grpc/experimental/stats"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	gresolver "google.golang.org/grpc/resolver"
)

// recorder is a stats plugin, as far as the policy sees it.
type recorder struct {
	estats.UnimplementedMetricsRecorder
	mu       sync.Mutex
	counts   map[string]int64
	reporter estats.AsyncMetricReporter
}

func key(name string, labels []string) string { return name + " " + strings.Join(labels, " ") }

func (r *recorder) RecordInt64Count(h *estats.Int64CountHandle, n int64, labels ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[key(h.Descriptor().Name, labels)] += n
}

func (r *recorder) RegisterAsyncReporter(reporter estats.AsyncMetricReporter, _ ...estats.AsyncMetric) func() {
	r.reporter = reporter
	return func() { r.reporter = nil }
}

// gauges collects what asynchronous metrics say.
type gauges map[string]int64

func (g gauges) RecordInt64AsyncGauge(h *estats.Int64AsyncGaugeHandle, n int64, labels ...string) {
	g[key(h.Descriptor().Name, labels)] = n
}

func (r *recorder) collect() gauges {
	g := gauges{}
	if r.reporter != nil {
		r.reporter.Report(g)
	}
	return g
}

func (r *recorder) count(name string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[name]
}

const countedPicks = "rollcall.balancer.picks test:///echo"

// inBubbleWithMetrics runs test with an engine that records.
func inBubbleWithMetrics(t *testing.T, test func(b *bed, r *recorder)) {
	inBubble(t, func(t *testing.T, b *bed) {
		r := &recorder{counts: map[string]int64{}}
		b.cc.Recorder = r
		b.engine.Close()
		b.engine = newEngine(b.cc, gbalancer.BuildOptions{Target: gresolver.Target{URL: url.URL{Scheme: "test", Path: "/echo"}}})
		test(b, r)
	})
}

func TestGaugesSayHowTheSetIs(t *testing.T) {
	inBubbleWithMetrics(t, func(b *bed, r *recorder) {
		b.resolve(RoundRobin{}, servers("a", "b", "c")...)
		b.ready("a", "b")
		b.mu.Lock()
		b.eject(b.order[0], b.now(), 1, "for the test")
		b.mu.Unlock()
		b.pass()
		time.Sleep(7 * time.Second)
		want := gauges{
			"rollcall.balancer.instances test:///echo known":   3,
			"rollcall.balancer.instances test:///echo ready":   2,
			"rollcall.balancer.instances test:///echo ejected": 1,
			"rollcall.balancer.set_age test:///echo":           7,
		}
		if got := r.collect(); fmt.Sprint(got) != fmt.Sprint(want) {
			b.t.Errorf("collected %v, want %v", got, want)
		}
		if got := r.count("rollcall.balancer.ejections test:///echo failing"); got != 1 {
			b.t.Errorf("%d ejections counted, want 1", got)
		}
		b.Close()
		if r.reporter != nil {
			b.t.Error("it still reports after Close")
		}
	})
}

// Who does not collect does not pay; who does gets each pick, whatever it is for.
func TestPicksAreCountedWhereSomebodyCollects(t *testing.T) {
	for name := range pickers {
		t.Run(name, func(t *testing.T) {
			inBubbleWithMetrics(t, func(b *bed, r *recorder) {
				p, _ := ParsePicker(name)
				b.resolve(p, servers("a", "b", "c")...)
				b.ready("a", "b")
				b.picks(t.Context(), 10)
				time.Sleep(time.Minute)
				if got := r.count(countedPicks); got != 0 {
					t.Errorf("%d picks counted before anybody has collected", got)
				}
				r.collect()
				b.ready("c")
				b.picks(t.Context(), 100)
				ctx, rec := b.recorded()
				rec.Avoid("a")
				b.picks(ctx, 10)
				rec.Pin("b")
				b.picks(ctx, 1)
				b.picker.trial.Store(&trial{conn: b.order[0].conn})
				if _, err := b.picker.Pick(gbalancer.PickInfo{Ctx: t.Context(), FullMethodName: healthpb.Health_Check_FullMethodName}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * reportEvery)
				if got := r.count(countedPicks); got != 112 {
					t.Errorf("%d picks counted, want 112", got)
				}
				b.picks(t.Context(), 3)
				b.Close()
				if got := r.count(countedPicks); got != 115 {
					t.Errorf("%d picks counted after Close, want 115", got)
				}
			})
		})
	}
}

// A connection that is back after a while without calls is counted as before.
func TestPicksAreCountedAfterAReconnect(t *testing.T) {
	inBubbleWithMetrics(t, func(b *bed, r *recorder) {
		b.up(configWith(RoundRobin{}), "a")
		r.collect()
		b.picks(b.t.Context(), 1)
		b.sub("a").Set(connectivity.Idle, nil)
		time.Sleep(time.Minute)
		b.ready("a")
		b.picks(b.t.Context(), 5)
		time.Sleep(2 * reportEvery)
		if got := r.count(countedPicks); got != 6 {
			b.t.Errorf("%d picks counted, want 6", got)
		}
	})
}
