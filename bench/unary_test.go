package bench

import (
	"context"
	"fmt"
	"net"
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

// everything is the client with all of rollcall.
const everything = "rollcall.all"

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
		name: everything, target: "discovery:///echo",
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
	servers := newServers(b)
	for _, s := range subjects {
		pair := servers.pair(b, s, false)
		for _, inflight := range inflights {
			b.Run(fmt.Sprintf("client=%s/inflight=%d", s.name, inflight), func(b *testing.B) {
				c := comparison{pair: pair, inflight: inflight}
				for b.Loop() {
					c.turn(b)
				}
				b.ReportMetric(median(c.wall), "time-ratio")
				b.ReportMetric(median(c.cpu), "cpu-ratio")
				b.ReportMetric(median(c.plain), "plain-ns/call")
			})
		}
	}
}

var inflights = []int{1, 64}

// comparison is that of a client with a plain one, this many calls in flight.
type comparison struct {
	pair      [2]echov1.EchoClient // the plain one first
	inflight  int
	turns     int
	wall, cpu []float64 // ratios, one of each turn
	plain     []float64 // ns a plain call takes
}

// turn makes a slice of calls with each of the clients; their order changes from
// turn to turn.
func (c *comparison) turn(tb testing.TB) {
	var of [2]cost
	for i := range of {
		which := (i + c.turns) % 2
		of[which] = unaryCalls(tb, c.pair[which], c.inflight)
	}
	c.turns++
	c.wall, c.cpu = append(c.wall, of[1].wall/of[0].wall), append(c.cpu, of[1].cpu/of[0].cpu)
	c.plain = append(c.plain, of[0].wall)
}

// callsInSlice take 10 to 50 ms, which is long for the scheduler and short for the
// neighbours on the machine.
const callsInSlice = 500

// unaryCalls makes a slice of calls, this many at a time.
func unaryCalls(tb testing.TB, client echov1.EchoClient, inflight int) cost {
	request := &echov1.GetRequest{Key: "a key of sixty-four bytes, more or less, as small calls have it"}
	var left atomic.Int64
	left.Store(callsInSlice)
	begin, cpu := time.Now(), cpuTime()
	var workers sync.WaitGroup
	for range inflight {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := client.Get(tb.Context(), request); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	return cost{wall: float64(time.Since(begin)) / callsInSlice, cpu: float64(cpuTime()-cpu) / callsInSlice}
}

// servers run in this process and are known to a registry.
type servers struct {
	registry *memory.Registry
	known    []registry.Instance
}

func newServers(tb testing.TB) *servers {
	s := &servers{registry: memory.New()}
	tb.Cleanup(func() { s.registry.Close() })
	for i := range 4 {
		s.known = append(s.known, serve(tb, s.registry, fmt.Sprintf("echo-%d", i)))
	}
	return s
}

// pair returns a plain client and one that is set up as s says. Each has a plain one
// of its own, since who makes fewer calls than another finds less of what it needs in
// the processor's caches; and either of them may be the one that is set up first.
func (servers *servers) pair(tb testing.TB, s subject, plainLast bool) (pair [2]echov1.EchoClient) {
	order := []int{0, 1}
	if plainLast {
		order = []int{1, 0}
	}
	for _, i := range order {
		pair[i] = servers.dial(tb, []subject{plain, s}[i])
	}
	return pair
}

// dial returns a client that is connected to all instances.
func (servers *servers) dial(tb testing.TB, s subject) echov1.EchoClient {
	tb.Helper()
	options := append(s.options(servers.registry, servers.known), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	conn, err := grpc.NewClient(s.target, options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		conn.WaitForStateChange(tb.Context(), state)
	}
	client := echov1.NewEchoClient(conn)
	unaryCalls(tb, client, 8) // warms up, and meanwhile the others connect
	return client
}

// serve starts a server and registers it.
func serve(tb testing.TB, reg *memory.Registry, id string) registry.Instance {
	tb.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer()
	echov1.RegisterEchoServer(server, echo{id: id})
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(lis) })
	tb.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	inst := registry.Instance{Service: "echo", ID: id, Life: "1", Addrs: []string{lis.Addr().String()}}
	if _, err := reg.Register(tb.Context(), inst); err != nil {
		tb.Fatal(err)
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
