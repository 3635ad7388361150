package test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	gogrpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
	"github.com/rollcall-go/rollcall/resolver"
)

// openLoop starts the calls that are due until ctx ends, whatever becomes of those
// before, and waits for them. It returns for how many seconds it has started any.
func openLoop(ctx context.Context, rate float64, call func()) (seconds float64) {
	began := time.Now()
	var calls sync.WaitGroup
	defer calls.Wait()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for made := 0.0; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return time.Since(began).Seconds()
		}
		for ; made < rate*time.Since(began).Seconds(); made++ {
			calls.Go(call)
		}
	}
}

// observer is a client in this process that notes every attempt.
type observer struct {
	t      *testing.T
	client echov1.EchoClient
	rate   float64 // calls per second

	cancel  context.CancelFunc
	load    sync.WaitGroup
	seconds float64

	mu       sync.Mutex // guards all below
	attempts []attempt
	calls    int
	failed   map[string]int // calls by error
}

type attempt struct {
	server       string
	class        pick.Class
	err          error
	began, ended time.Time
}

// observe returns a client with this policy, connected to so many servers.
func observe(t *testing.T, registry string, servers int, policy string, mode failmode.Mode, opts ...failmode.Option) *observer {
	t.Helper()
	picker, err := balancer.ParsePicker(policy)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := httpregistry.New([]string{registry}, httpregistry.WithPollInterval(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{t: t, failed: map[string]int{}, cancel: func() {}}
	opts = append(opts, failmode.WithBudget(1, 10), failmode.WithObserver(o.note))
	conn, err := gogrpc.NewClient("discovery:///echo", append(resolver.DialOptions(),
		gogrpc.WithTransportCredentials(insecure.NewCredentials()),
		gogrpc.WithResolvers(resolver.NewBuilder(reg)),
		gogrpc.WithDefaultServiceConfig(balancer.ServiceConfig(picker)),
		gogrpc.WithUnaryInterceptor(failmode.UnaryClientInterceptor(mode, opts...)),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	o.client = echov1.NewEchoClient(conn)
	t.Cleanup(func() {
		o.end()
		conn.Close()
		reg.Close()
	})
	until(t, "the client reaches every server", func() bool {
		_, err := o.client.Get(t.Context(), &echov1.GetRequest{}, gogrpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		return len(o.servedSince(time.Time{})) == servers
	})
	return o
}

func (o *observer) note(e failmode.AttemptEvent) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attempts = append(o.attempts, attempt{e.Target.ID, e.Class, e.Err, now.Add(-e.Duration), now})
}

// servedSince counts the successful attempts that began since then, by server.
func (o *observer) servedSince(then time.Time) map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	served := map[string]int{}
	for _, a := range o.attempts {
		if a.err == nil && !a.began.Before(then) {
			served[a.server]++
		}
	}
	return served
}

// start makes calls from now on; each may take so long.
func (o *observer) start(rate float64, timeout time.Duration, call func(context.Context, echov1.EchoClient) error) {
	o.mu.Lock()
	o.attempts, o.calls = nil, 0
	o.mu.Unlock()
	ctx, cancel := context.WithCancel(o.t.Context())
	o.rate, o.cancel = rate, cancel
	o.load.Go(func() {
		o.seconds = openLoop(ctx, rate, func() {
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			err := call(ctx, o.client)
			o.mu.Lock()
			defer o.mu.Unlock()
			o.calls++
			if err != nil {
				o.failed[err.Error()]++
			}
		})
	})
}

// end ends the load, waits for all answers and fails the test if the client has not
// made the calls that it was to make.
func (o *observer) end() {
	o.t.Helper()
	o.cancel()
	o.load.Wait()
	if planned := o.rate * o.seconds; float64(o.calls) < 0.95*planned {
		o.t.Errorf("%d of %.0f calls were made", o.calls, planned)
	}
}

// lost is how many calls failed.
func (o *observer) lost() (count int) {
	for _, n := range o.failed {
		count += n
	}
	return count
}

func (o *observer) String() string {
	return fmt.Sprintf("%d of %d calls failed: %v", o.lost(), o.calls, o.failed)
}

// at returns the attempts at a server in the order in which they began.
func (o *observer) at(server string) (found []attempt) {
	for _, a := range o.attempts {
		if a.server == server {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(a, b attempt) int { return a.began.Compare(b.began) })
	return found
}

// get promises to bear repetition, add does not.
func get(ctx context.Context, c echov1.EchoClient) error {
	_, err := c.Get(ctx, &echov1.GetRequest{Key: "key"})
	return err
}

func add(ctx context.Context, c echov1.EchoClient) error {
	_, err := c.Add(ctx, &echov1.AddRequest{Key: "key", Amount: 1})
	return err
}
