package shutdown

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
	"github.com/rollcall-go/rollcall/registry/registryserver"
)

var (
	table  = flag.Bool("table", false, "print what a rolling restart costs, by the ways to take a server down")
	rounds = flag.Int("rounds", 2, "how often each of the four servers is restarted, on the same port and on a new one")
	rate   = flag.Float64("rate", 1000, "calls per second")
)

// TestTable restarts the servers under load for every way and client, and prints how
// many calls failed. It fails if rollcall lost one.
func TestTable(t *testing.T) {
	if !*table {
		t.Skip("takes minutes: run with -args -table")
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "server\tclient\tfailed, same ports\tfailed, new ports\tfailed, all replaced\tcalls\ttime to go down\n")
	for _, row := range []struct {
		way
		caller
	}{
		{stopping, plain},
		{stopping, retrying},
		{barriers, plain},
		{barriers, knowing},
		{graceful, plain},
		{graceful, retrying},
		{rollcall, plain},
		{rollcall, resolved},
		{rollcall, failfast},
		{rollcall, failover},
	} {
		t.Run(row.way.name+"/"+row.caller.name, func(t *testing.T) {
			same, fresh, all := measure(t, row.way, row.caller, samePorts), measure(t, row.way, row.caller, newPorts), measure(t, row.way, row.caller, replaced)
			fmt.Fprintf(out, "%s\t%s\t%d\t%d\t%d\t%d\t%v\n", row.way.name, row.caller.name, same.failed.Load(), fresh.failed.Load(), all.failed.Load(),
				same.calls.Load()+fresh.calls.Load()+all.calls.Load(), fresh.down.Round(10*time.Millisecond))
			if lost := same.failed.Load() + fresh.failed.Load() + all.failed.Load(); row.way.name == rollcall.name && row.caller.name != plain.name && lost > 0 {
				t.Errorf("%d calls lost: %v %v %v", lost, same.why.Load(), fresh.why.Load(), all.why.Load())
			}
		})
	}
	out.Flush()
}

// roll is how servers are restarted.
type roll int

const (
	samePorts roll = iota // one after the other, each on its port
	newPorts              // one after the other, each on a new port
	replaced              // four new ones come, then the four old ones go at once
)

// result is what a roll has cost.
type result struct {
	calls, failed atomic.Int64
	why           atomic.Value  // an error
	down          time.Duration // how long it takes to take a server down
}

// fleet is four servers and who takes them down.
type fleet struct {
	t        *testing.T
	way      way
	registry string
	down     [4]func()
	ports    [4]string
	started  int
}

func (f *fleet) serve(i int, id, at string) {
	f.t.Helper()
	lis, err := net.Listen("tcp", at)
	if err != nil {
		f.t.Fatal(err)
	}
	f.ports[i] = lis.Addr().String()
	f.down[i] = f.way.serve(f.t, connect(f.t, f.registry), registry.Instance{Service: service, ID: id}, lis)
}

// start starts a whole new fleet.
func (f *fleet) start() {
	for i := range f.down {
		f.started++
		f.serve(i, fmt.Sprint("server", f.started), anyPort)
	}
}

// stop takes servers down at once.
func stop(down [4]func()) {
	var stopping sync.WaitGroup
	for _, stop := range down {
		stopping.Go(stop)
	}
	stopping.Wait()
}

const anyPort = "127.0.0.1:0"

// measure restarts each of four servers under load.
func measure(t *testing.T, w way, c caller, how roll) *result {
	t.Helper()
	f := &fleet{t: t, way: w, registry: startRegistry(t)}
	f.start()
	conn, err := grpc.NewClient("discovery:///"+service, append(c.dial(connect(t, f.registry)), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := &result{}
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() { r.load(ctx, echov1.NewEchoClient(conn)) })
	// Two polls, as the answer of one may be as old, and a reconnect.
	learn := func() { time.Sleep(3 * poll) }
	learn()
	for range *rounds {
		if how == replaced {
			old := f.down
			f.start()
			stop(old)
			learn()
			continue
		}
		for i, down := range f.down {
			began := time.Now()
			down()
			r.down += time.Since(began) / time.Duration(*rounds*len(f.down))
			at := anyPort
			if how == samePorts {
				at = f.ports[i]
			}
			f.serve(i, fmt.Sprint("server", i+1), at)
			learn()
		}
	}
	cancel()
	load.Wait()
	stop(f.down)
	return r
}

// load makes the calls that are due, whatever becomes of those before.
func (r *result) load(ctx context.Context, client echov1.EchoClient) {
	var calls sync.WaitGroup
	defer calls.Wait()
	// The first call waits for the first answer of the registry.
	_, _ = client.Add(ctx, &echov1.AddRequest{}, grpc.WaitForReady(true))
	began := time.Now()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for made := 0.0; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		for ; made < *rate*time.Since(began).Seconds(); made++ {
			calls.Go(func() { r.call(client) })
		}
	}
}

func (r *result) call(client echov1.EchoClient) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r.calls.Add(1)
	if _, err := client.Add(ctx, &echov1.AddRequest{Key: "key", Amount: 1}); err != nil {
		r.failed.Add(1)
		r.why.Store(err.Error())
	}
}

// startRegistry runs a registry until the end of the test and returns where.
func startRegistry(t *testing.T) (addr string) {
	t.Helper()
	node, err := registryserver.New()
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { _ = node.Serve(ctx, lis) })
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	return lis.Addr().String()
}

func connect(t *testing.T, addr string) *httpregistry.Client {
	t.Helper()
	reg, err := httpregistry.New([]string{addr}, httpregistry.WithPollInterval(poll))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	return reg
}
