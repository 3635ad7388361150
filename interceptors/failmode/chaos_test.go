package failmode_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/registry"
)

// point is where a process dies, or what else becomes of it.
type point int

const (
	beforeAccept point = iota // when a connection to it is made
	afterHeaders              // when a handler has sent its headers
	inHandler                 // while a handler runs
	afterReply                // when the answer to a call was written
	cut                       // it lives on, its connections break
	drains                    // it refuses calls for a while, and says so
	stops                     // it finishes what it has and is gone
	points
)

var pointNames = [points]string{"before accept", "after headers", "inside the handler", "after the reply", "cut", "drains", "stops"}

// chaos is a world whose servers come to harm while calls are made.
type chaos struct {
	*world
	over chan struct{} // closed when the calls have been made

	harms [points]atomic.Int64

	mu       sync.Mutex // guards all below, world.servers and world.update
	random   *rand.Rand
	executed map[string]int
	now      []*process // by number of the server
	lives    int
}

// process is one life of a server.
type process struct {
	*testenv.Server
	doom   atomic.Int32  // the point at which it dies; points if it does not
	dead   chan struct{} // closed when it has died
	drains atomic.Bool
}

// reaches says that the process has come to this point, at which it may have to die.
func (p *process) reaches(at point) {
	if p.doom.CompareAndSwap(int32(at), int32(points)) {
		p.Kill()
		close(p.dead)
	}
}

func newChaos(w *world, servers int, random *rand.Rand) *chaos {
	c := &chaos{world: w, over: make(chan struct{}), random: random, executed: map[string]int{}}
	c.now, c.servers = make([]*process, servers), make([]*testenv.Server, servers)
	for i := range servers {
		c.start(i)
	}
	return c
}

// number returns one from 0 to n-1.
func (c *chaos) number(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(n)
}

// pause takes up to d, and some time in any case.
func (c *chaos) pause(d time.Duration) { time.Sleep(1 + time.Duration(c.number(int(d)))) }

// start puts a new process in the place of server i.
func (c *chaos) start(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lives++
	inst := registry.Instance{ID: string(rune('a' + i)), Life: fmt.Sprint(c.lives)}
	if c.now[i] != nil {
		inst.Addrs = []string{c.now[i].Addr}
	}
	p := &process{dead: make(chan struct{})}
	p.doom.Store(int32(points))
	p.Server = c.Start(inst, grpc.UnaryInterceptor(c.serve(p, inst)), grpc.StatsHandler(replies{p}))
	c.now[i], c.servers[i] = p, p.Server
	if c.names != nil {
		c.update()
	}
}

// serve counts the calls that are executed, lets them take a while, and kills the
// process within them.
func (c *chaos) serve(p *process, inst registry.Instance) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if p.drains.Load() {
			return nil, refuse(ctx, inst)
		}
		c.mu.Lock()
		c.executed[req.(interface{ GetKey() string }).GetKey()]++
		c.mu.Unlock()
		c.pause(2 * ms)
		p.reaches(inHandler)
		if point(p.doom.Load()) == afterHeaders && grpc.SendHeader(ctx, nil) == nil {
			p.reaches(afterHeaders)
		}
		return handler(ctx, req)
	}
}

// replies kills its process when it has written a reply.
type replies struct{ p *process }

func (replies) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (replies) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (replies) HandleConn(context.Context, stats.ConnStats)                       {}
func (r replies) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ended := s.(*stats.End); ended {
		r.p.reaches(afterReply)
	}
}

// dialer kills the process that is dialled: when nobody has accepted the connection
// yet, or just after that.
func (c *chaos) dialer(ctx context.Context, addr string) (net.Conn, error) {
	p := c.at(addr)
	if c.number(2) == 0 {
		p.reaches(beforeAccept)
	}
	conn, err := c.Network.Dial(ctx, addr)
	p.reaches(beforeAccept)
	return conn, err
}

func (c *chaos) at(addr string) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.now {
		if p.Addr == addr {
			return p
		}
	}
	panic("nobody has been at " + addr)
}

func (c *chaos) process(i int) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now[i]
}

// harm does something bad to server i, again and again, until the calls have been
// made.
func (c *chaos) harm(i int) {
	for !closed(c.over) {
		c.pause(5 * ms)
		c.harmOnce(i, point(c.number(int(points))))
	}
}

func (c *chaos) harmOnce(i int, at point) {
	const down = 10 * ms
	p := c.process(i)
	switch at {
	case cut:
		c.Network.Cut(p.Addr)
	case drains:
		p.drains.Store(true)
		c.pause(down)
		p.drains.Store(false)
	case stops:
		p.Stop()
		c.pause(down)
		c.start(i)
	default:
		p.doom.Store(int32(at))
		if at == beforeAccept {
			c.Network.Cut(p.Addr)
		}
		select {
		case <-p.dead:
		case <-c.over:
			return
		}
		c.pause(down)
		c.start(i)
	}
	c.harms[at].Add(1)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
