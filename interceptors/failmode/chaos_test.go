package failmode_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// chaos is a world whose servers are killed, cut off and drained while calls are
// made.
type chaos struct {
	*world
	rand *rand.Rand

	harms  [3]int     // kills, cuts and drains
	mu     sync.Mutex // guards all of world.servers as well
	past   []*testenv.Server
	drains map[string]*atomic.Bool // by Life
}

func (c *chaos) options(inst registry.Instance) grpc.ServerOption {
	drains := new(atomic.Bool)
	c.drains[inst.Life] = drains
	return grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if drains.Load() {
			grpc.SetTrailer(ctx, drain.NotExecuted(inst.ID, inst.Life))
			return nil, drain.Refusal(inst.Service, inst.ID, inst.Life)
		}
		return handler(ctx, req)
	})
}

// start puts a new process in the place of server i.
func (c *chaos) start(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	inst := registry.Instance{ID: string(rune('a' + i)), Life: fmt.Sprint(len(c.past))}
	if i < len(c.servers) {
		inst.Addrs = []string{c.servers[i].Addr}
	} else {
		c.servers = append(c.servers, nil)
	}
	s := c.Start(inst, c.options(inst))
	s.OnCall(testenv.Delay(2 * ms))
	c.servers[i] = s
	c.past = append(c.past, s)
}

// harm does something bad to a random server.
func (c *chaos) harm() {
	i := c.rand.IntN(len(c.servers))
	s := c.servers[i]
	kind := c.rand.IntN(3)
	c.harms[kind]++
	switch kind {
	case 0:
		s.Kill()
		time.Sleep(time.Duration(c.rand.IntN(20)) * ms)
		c.start(i)
		c.update()
	case 1:
		c.Network.Cut(s.Addr)
	case 2:
		c.drains[s.Instance().Life].Store(true)
		time.Sleep(10 * ms)
		c.drains[s.Instance().Life].Store(false)
	}
}

// total is how often the payment was executed, in all processes there were.
func (c *chaos) total(key string) (n int64) {
	for _, s := range c.past {
		n += s.Total(key)
	}
	return n
}

// A method without a promise is executed at most once, whatever happens to the
// servers, and an error that says that it was not executed is right.
func TestPaymentIsNeverMadeTwice(t *testing.T) {
	const callers = 8
	calls := amount(400, 12_500)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		c := &chaos{world: &world{System: testenv.New(t)}, rand: rand.New(rand.NewPCG(seed, 0)), drains: map[string]*atomic.Bool{}}
		for i := range 3 {
			c.start(i)
		}
		c.dial(append(c.intercept(failmode.Failover), fast)...)

		outcomes := make([]map[string]error, callers)
		var done sync.WaitGroup
		for caller := range callers {
			outcomes[caller] = map[string]error{}
			done.Go(func() {
				for i := range calls {
					key := fmt.Sprintf("%d-%d", caller, i)
					_, err := c.client.Add(t.Context(), &echov1.AddRequest{Key: key, Amount: 1})
					outcomes[caller][key] = err
				}
			})
		}
		var over atomic.Bool
		var harm sync.WaitGroup
		harm.Go(func() {
			for !over.Load() {
				time.Sleep(time.Duration(c.rand.IntN(10)) * ms)
				c.harm()
			}
		})
		done.Wait()
		over.Store(true)
		harm.Wait()
		c.judge(t, outcomes)
	})
}

func (c *chaos) judge(t *testing.T, outcomes []map[string]error) {
	failed := 0
	for _, outcome := range outcomes {
		for key, err := range outcome {
			n := c.total(key)
			story, ok := errors.AsType[*failmode.Error](err)
			switch {
			case err == nil && n != 1:
				t.Errorf("payment %s succeeded and was executed %d times", key, n)
			case n > 1:
				t.Errorf("payment %s was executed %d times: %v", key, n, err)
			case err != nil && !ok:
				t.Errorf("payment %s: an error without its story: %v", key, err)
			case err != nil && n == 1 && !story.MayHaveExecuted():
				t.Errorf("payment %s was executed, and the error says that it was not: %v", key, err)
			}
			if err != nil {
				failed++
			}
		}
	}
	seen := map[pick.Class]int{}
	for _, e := range c.take() {
		seen[e.Class]++
	}
	t.Logf("%d calls failed; attempts by class: %v; kills, cuts and drains: %v", failed, seen, c.harms)
	for _, class := range []pick.Class{pick.Unanswered, pick.Answered, pick.Refused} {
		if seen[class] < amount(1, 1000) {
			t.Errorf("only %d attempts were %v: the test shows nothing about it", seen[class], class)
		}
	}
	if least := amount(1, 200); slices.Min(c.harms[:]) < least {
		t.Errorf("kills, cuts and drains: %v, want %d of each", c.harms, least)
	}
}
