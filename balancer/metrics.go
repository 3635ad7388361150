package balancer

import (
	"time"

	"google.golang.org/grpc/connectivity"
	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/grpclog"
)

// logger is gRPC's own, as every policy's: quiet unless GRPC_GO_LOG_SEVERITY_LEVEL
// says info.
var logger = grpclog.Component(Name)

// The policy's metrics, in gRPC's registry of metrics (gRFC A79), which makes them
// known to stats plugins such as OpenTelemetry's. gRPC makes it global.
var (
	picksMetric = estats.RegisterInt64Count(estats.MetricDescriptor{
		Name: "rollcall.balancer.picks", Unit: "{pick}", Labels: []string{"grpc.target"}, Default: true,
		Description: "Picks of an instance, for calls and for attempts of calls. Counted where rollcall.balancer.instances is collected.",
	})
	ejectionsMetric = estats.RegisterInt64Count(estats.MetricDescriptor{
		Name: "rollcall.balancer.ejections", Unit: "{ejection}", Labels: []string{"grpc.target", "rollcall.reason"}, Default: true,
		Description: "Instances taken out of the rotation because they are failing, stalled, or connected anew after they had closed.",
	})
	instancesMetric = estats.RegisterInt64AsyncGauge(estats.MetricDescriptor{
		Name: "rollcall.balancer.instances", Unit: "{instance}", Labels: []string{"grpc.target", "rollcall.state"}, Default: true,
		Description: "Instances that are known to the channel, that are ready, and of those, that are ejected.",
	})
	ageMetric = estats.RegisterInt64AsyncGauge(estats.MetricDescriptor{
		Name: "rollcall.balancer.set_age", Unit: "s", Labels: []string{"grpc.target"}, Default: true,
		Description: "Time since the resolver last said which instances there are. It says so when they change.",
	})
)

// metrics records what the policy counts. The engine's mu guards it.
type metrics struct {
	recorder   estats.MetricsRecorder
	target     string
	unregister func()
	listened   bool          // somebody collects
	reported   time.Duration // when picks were recorded last
	resolved   time.Duration // when the resolver was last heard
}

// reportEvery is how often picks are recorded while calls are made.
const reportEvery = time.Second

func (e *engine) startMetrics() {
	e.metrics.recorder, e.metrics.target = e.cc.MetricsRecorder(), e.opts.Target.String()
	e.metrics.unregister = e.metrics.recorder.RegisterAsyncReporter(estats.AsyncMetricReporterFunc(e.report), instancesMetric, ageMetric)
}

// report tells who collects metrics how it stands. From the first time on, picks
// are counted.
func (e *engine) report(r estats.AsyncMetricsRecorder) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shut {
		return nil
	}
	if !e.metrics.listened {
		e.metrics.listened = true
		e.noteAll()
	}
	ejected := int64(0)
	for _, c := range e.order {
		if c.state == connectivity.Ready && c.health.suspect {
			ejected++
		}
	}
	target := e.metrics.target
	instancesMetric.Record(r, int64(len(e.order)), target, "known")
	instancesMetric.Record(r, int64(e.count[connectivity.Ready]), target, "ready")
	instancesMetric.Record(r, ejected, target, "ejected")
	ageMetric.Record(r, int64((e.now()-e.metrics.resolved)/time.Second), target)
	return nil
}

func (e *engine) countEjection(reason string) {
	ejectionsMetric.Record(e.metrics.recorder, 1, e.metrics.target, reason)
}

// recordPicks records the picks since the last time.
func (e *engine) recordPicks(now time.Duration) {
	e.metrics.reported = now
	if picks := e.picker.picks.Swap(0); picks > 0 {
		picksMetric.Record(e.metrics.recorder, picks, e.metrics.target)
	}
}
