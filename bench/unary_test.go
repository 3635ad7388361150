package bench

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
	"github.com/rollcall-go/rollcall/resolver"
)

// subject is one way to set up a client.
type subject struct {
	name    string
	target  string
	options func(reg *memory.Registry, known []registry.Instance) []grpc.DialOption
}

// plain is what the others are compared with.
var plain = subject{
	name: "grpc.round_robin", target: "manual:///echo",
	options: func(_ *memory.Registry, known []registry.Instance) []grpc.DialOption {
		return []grpc.DialOption{
			grpc.WithResolvers(fixed(known)),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		}
	},
}

var subjects = []subject{
	{name: "control", target: plain.target, options: plain.options}, // the same again: what noise looks like
	{
		name: "rollcall.policy", target: plain.target,
		options: func(_ *memory.Registry, known []registry.Instance) []grpc.DialOption {
			return []grpc.DialOption{
				grpc.WithResolvers(fixed(known)),
				grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.WeightedRoundRobin{})),
			}
		},
	},
	{
		name: "rollcall.all", target: "discovery:///echo",
		options: func(reg *memory.Registry, _ []registry.Instance) []grpc.DialOption {
			return []grpc.DialOption{
				grpc.WithResolvers(resolver.NewBuilder(reg)),
				grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.WeightedRoundRobin{})),
				grpc.WithChainUnaryInterceptor(failmode.UnaryClientInterceptor(failmode.Failover)),
			}
		},
	},
}

// fixed is a resolver that knows these instances from the start.
func fixed(known []registry.Instance) gresolver.Builder {
	var state gresolver.State
	for _, inst := range known {
		ep := gresolver.Endpoint{Addresses: []gresolver.Address{{Addr: inst.Addrs[0]}}}
		state.Endpoints = append(state.Endpoints, endpoint.Set(ep, inst))
	}
	builder := manual.NewBuilderWithScheme("manual")
	builder.InitialState(state)
	return builder
}

// BenchmarkUnary is a small unary call over loopback to four servers in this
// process. Each subject takes turns with plain gRPC in slices of calls, so that
// both see the same machine; an operation is a pair of slices. time-ratio and
// cpu-ratio are the medians over the pairs: what a call costs, relative to the
// plain one. The processor time is that of client and servers together.
func BenchmarkUnary(b *testing.B) {
	reg := memory.New()
	b.Cleanup(func() { reg.Close() })
	var known []registry.Instance
	for i := range 4 {
		known = append(known, serve(b, reg, fmt.Sprintf("echo-%d", i)))
	}
	base := dial(b, plain, reg, known)
	for _, s := range subjects {
		client := dial(b, s, reg, known)
		for _, inflight := range []int{1, 64} {
			b.Run(fmt.Sprintf("client=%s/inflight=%d", s.name, inflight), func(b *testing.B) {
				compare(b, base, client, inflight)
			})
		}
	}
}

// slice is how many calls are made in a row with one client: 10 to 50 ms, which is
// long for the scheduler and short for the neighbours on the machine.
const slice = 500

func compare(b *testing.B, base, client echov1.EchoClient, inflight int) {
	var times, cpus []float64
	var total, plain time.Duration
	for turn := 0; b.Loop(); turn++ {
		var of [2]cost
		for i := range of { // the order changes from pair to pair
			which := (i + turn) % 2
			of[which] = calls(b, []echov1.EchoClient{base, client}[which], inflight)
		}
		times = append(times, float64(of[1].wall)/float64(of[0].wall))
		cpus = append(cpus, float64(of[1].cpu)/float64(of[0].cpu))
		plain, total = plain+of[0].wall, total+of[1].wall
	}
	b.ReportMetric(median(times), "time-ratio")
	b.ReportMetric(median(cpus), "cpu-ratio")
	b.ReportMetric(float64(plain)/float64(len(times)*slice), "plain-ns/call")
	b.ReportMetric(float64(total)/float64(len(times)*slice), "ns/call")
}

type cost struct{ wall, cpu time.Duration }

// calls makes a slice of calls, this many at a time.
func calls(b *testing.B, client echov1.EchoClient, inflight int) cost {
	request := &echov1.GetRequest{Key: "a key of sixty-four bytes, more or less, as small calls have it"}
	var left atomic.Int64
	left.Store(slice)
	begin, cpu := time.Now(), cpuTime()
	var workers sync.WaitGroup
	for range inflight {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := client.Get(b.Context(), request); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	return cost{time.Since(begin), cpuTime() - cpu}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// dial returns a client that is connected to all instances.
func dial(b *testing.B, s subject, reg *memory.Registry, known []registry.Instance) echov1.EchoClient {
	b.Helper()
	options := append(s.options(reg, known), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	conn, err := grpc.NewClient(s.target, options...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		conn.WaitForStateChange(b.Context(), state)
	}
	client := echov1.NewEchoClient(conn)
	calls(b, client, 8) // warms up, and meanwhile the others connect
	return client
}

// serve starts a server and registers it.
func serve(b *testing.B, reg *memory.Registry, id string) registry.Instance {
	b.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer()
	echov1.RegisterEchoServer(server, echo{id: id})
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(lis) })
	b.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	inst := registry.Instance{Service: "echo", ID: id, Life: "1", Addrs: []string{lis.Addr().String()}}
	if _, err := reg.Register(b.Context(), inst); err != nil {
		b.Fatal(err)
	}
	return inst
}

// echo answers Get and nothing else.
type echo struct {
	echov1.UnimplementedEchoServer
	id string
}

func (e echo) Get(_ context.Context, r *echov1.GetRequest) (*echov1.GetResponse, error) {
	return &echov1.GetResponse{InstanceId: e.id, Value: r.GetKey()}, nil
}
