package system

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

// load makes calls at a steady rate, whether the ones before have ended or not.
type load struct {
	t    *testing.T
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex // guards all below
	calls  int
	served map[string]int // by instance
	failed map[string]int // by error
}

// call makes the n-th call and says who served it.
type call func(ctx context.Context, client echov1.EchoClient, n int) (id string, err error)

// get and add are calls of the methods of that name.
func get(ctx context.Context, client echov1.EchoClient, _ int) (string, error) {
	reply, err := client.Get(ctx, &echov1.GetRequest{})
	return reply.GetInstanceId(), err
}

// add uses a key per call, so that its total is how often it was executed.
func add(ctx context.Context, client echov1.EchoClient, n int) (string, error) {
	reply, err := client.Add(ctx, &echov1.AddRequest{Key: key(n), Amount: 1})
	return reply.GetInstanceId(), err
}

func key(n int) string { return fmt.Sprint("call-", n) }

// startLoad begins to make calls, so many in a second, each with 5 s to end.
func startLoad(t *testing.T, conn grpc.ClientConnInterface, perSecond int, one call) *load {
	l := &load{t: t, served: map[string]int{}, failed: map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	client := echov1.NewEchoClient(conn)
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	l.wg.Go(func() {
		defer ticker.Stop()
		for n := 0; ; n++ {
			l.wg.Go(func() { l.one(client, n, one) })
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return l
}

func (l *load) one(client echov1.EchoClient, n int, one call) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	id, err := one(ctx, client, n)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if err != nil {
		l.failed[err.Error()]++
	} else {
		l.served[id]++
	}
}

// end stops the load, waits for its last call and returns how many failed.
func (l *load) end() (failed int) {
	l.stop()
	l.wg.Wait()
	for n := range maps.Values(l.failed) {
		failed += n
	}
	return failed
}

// endWithoutFailure is end for a load of which no call may fail and that must
// have reached all of these instances.
func (l *load) endWithoutFailure(ids ...string) {
	l.t.Helper()
	if failed := l.end(); failed > 0 {
		l.t.Errorf("%d of %d calls failed: %v", failed, l.calls, l.failed)
	}
	if got := slices.Sorted(maps.Keys(l.served)); !slices.Equal(got, ids) {
		l.t.Errorf("served by %v, want %v", got, ids)
	}
}

// shares forgets what was counted, waits, and returns who served how many of
// the calls since then.
func (l *load) shares(d time.Duration) map[string]int {
	l.mu.Lock()
	clear(l.served)
	l.mu.Unlock()
	time.Sleep(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.served)
}
