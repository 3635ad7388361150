package bench

import (
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats/opentelemetry"

	"github.com/rollcall-go/rollcall/balancer"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
)

// TestMetricsReachOpenTelemetry: with gRPC's own OpenTelemetry plugin, as its
// documentation sets it up, what rollcall's policy counts is exported.
func TestMetricsReachOpenTelemetry(t *testing.T) {
	reg := memory.New()
	defer reg.Close()
	known := []registry.Instance{serve(t, reg, "echo-0"), serve(t, reg, "echo-1")}
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	conn, err := grpc.NewClient(plain.target,
		grpc.WithResolvers(fixed(known)),
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.WeightedRoundRobin{})),
		opentelemetry.DialOption(opentelemetry.Options{MetricsOptions: opentelemetry.MetricsOptions{MeterProvider: provider}}),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	calls := func(n int) {
		for range n {
			if _, err := echov1.NewEchoClient(conn).Get(t.Context(), &echov1.GetRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
		}
	}
	calls(3) // before anybody collects: not counted
	got := exported(t, reader)
	for name, want := range map[string]int64{"instances known": 2, "set_age": 0} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %d, want %d: %v", name, v, want, got)
		}
	}
	calls(17)
	conn.Close() // which records what is left to record
	if got := exported(t, reader); got["picks"] != 17 {
		t.Errorf("%d picks, want 17: %v", got["picks"], got)
	}
}

// exported returns rollcall's metrics by what their names and states end with.
func exported(t *testing.T, reader metric.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			var points []metricdata.DataPoint[int64]
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				points = data.DataPoints
			case metricdata.Gauge[int64]:
				points = data.DataPoints
			}
			for _, p := range points {
				name := strings.TrimPrefix(m.Name, "rollcall.balancer.")
				if state, ok := p.Attributes.Value(attribute.Key("rollcall.state")); ok {
					name += " " + state.AsString()
				}
				got[name] = p.Value
			}
		}
	}
	return got
}
