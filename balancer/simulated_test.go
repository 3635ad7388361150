package balancer

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/internal/fakecc"
)

// Time in a simulation goes in steps, in each of which so many calls are made.
const (
	step         = time.Millisecond
	callsPerStep = 10 // 10,000 a second
	giveUp       = int(deadline / step)
)

// illness is what is wrong with an instance.
type illness int

const (
	well       illness = iota
	isSlow             // takes 20 times as long as others
	isFailing          // answers Unavailable, and sooner than others answer
	isFrozen           // keeps its connection and answers nothing
	isFlapping         // loses its connection twice a second
	isDead             // lost its connection and refuses others
)

const (
	slowness  = 20
	flapEvery = 500  // steps
	flapLasts = 100  // steps
	backoff   = 1000 // steps after which gRPC connects again to who refused
)

// world is a policy, as gRPC knows it, with instances and callers of them.
type world struct {
	t        *testing.T
	policy   gbalancer.Balancer
	cc       *fakecc.ClientConn
	random   *rand.Rand
	patients []*patient
	byConn   map[gbalancer.SubConn]*patient
	unsteady []*patient            // those whose connections have been or are in other states than ready
	now      int                   // in steps
	ending   [giveUp + 1][]simCall // calls in hand by the step in which they end, modulo its length
	seen     observations
}

// patient is an instance that may fall ill.
type patient struct {
	illness
	conn     *fakecc.SubConn
	connects int // how many of conn's have been answered
	connect  int // the step in which a connection is accepted or refused
	idle     int // the step in which gRPC gets ready to connect anew
	picked   int // calls, since the last look at them
}

// simCall is a call in hand.
type simCall struct {
	to    *patient
	began int
	info  gbalancer.DoneInfo
	done  func(gbalancer.DoneInfo)
}

// observations are of calls that have ended.
type observations struct {
	took   [giveUp + 1]int // calls by the steps they took
	all    int
	failed int
}

// newWorld connects a policy to n instances. It must be closed.
func newWorld(t *testing.T, policy, js string, n int) *world {
	w := &world{t: t, cc: new(fakecc.ClientConn), random: rand.New(rand.NewPCG(1, 2)), byConn: map[gbalancer.SubConn]*patient{}}
	builder := gbalancer.Get(policy)
	var cfg serviceconfig.LoadBalancingConfig
	if parser, ok := builder.(gbalancer.ConfigParser); ok {
		var err error
		if cfg, err = parser.ParseConfig(json.RawMessage(js)); err != nil {
			t.Fatal(err)
		}
	}
	w.policy = builder.Build(w.cc, gbalancer.BuildOptions{})
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("echo-%02d", i))
	}
	if err := w.policy.UpdateClientConnState(gbalancer.ClientConnState{BalancerConfig: cfg, ResolverState: stateOf(servers(names...)...)}); err != nil {
		t.Fatal(err)
	}
	for _, conn := range w.cc.SubConns() {
		p := &patient{conn: conn, connects: conn.Connects()}
		w.patients, w.byConn[conn] = append(w.patients, p), p
		conn.Ready()
	}
	time.Sleep(time.Second)
	return w
}

// fall lets p fall ill.
func (w *world) fall(p *patient, i illness) {
	p.illness = i
	if i == isFlapping || i == isDead {
		w.unsteady = append(w.unsteady, p)
	}
}

// pass lets a time pass.
func (w *world) pass(d time.Duration) {
	for range int(d / step) {
		w.now++
		due := &w.ending[w.now%len(w.ending)]
		for _, c := range *due {
			w.end(c)
		}
		*due = (*due)[:0]
		for _, p := range w.unsteady {
			w.attend(p)
		}
		picker := w.cc.State().Picker
		for range callsPerStep {
			w.call(picker)
		}
		time.Sleep(step)
	}
}

// attend does what happens to p's connection in this step.
func (w *world) attend(p *patient) {
	switch {
	case p.illness == isFlapping && w.now%flapEvery == 0, p.illness == isDead && p.conn.State() == connectivity.Ready:
		w.lose(p)
	case w.now == p.idle:
		p.conn.Set(connectivity.Idle, nil)
	case w.now == p.connect && p.illness == isDead:
		p.conn.Fail(errUnavailable)
		p.idle = w.now + backoff
	case w.now == p.connect:
		p.conn.Ready()
	case p.conn.Connects() > p.connects:
		p.connects = p.conn.Connects()
		if p.connect = w.now + 1; p.illness == isFlapping {
			p.connect = w.now + flapLasts
		}
	}
}

// lose breaks a connection and all calls on it.
func (w *world) lose(p *patient) {
	p.conn.Set(connectivity.Idle, nil)
	for i, calls := range w.ending {
		var others []simCall
		for _, c := range calls {
			if c.to != p {
				others = append(others, c)
				continue
			}
			c.info = gbalancer.DoneInfo{Err: errUnavailable, BytesSent: true}
			w.end(c)
		}
		w.ending[i] = others
	}
}

// call makes one call.
func (w *world) call(picker gbalancer.Picker) {
	result, err := picker.Pick(gbalancer.PickInfo{Ctx: context.Background(), FullMethodName: unaryMethod})
	if err != nil {
		w.t.Fatalf("after %d ms nobody is picked: %v", w.now, err)
	}
	c := simCall{to: w.byConn[result.SubConn], began: w.now, info: answeredOK, done: result.Done}
	took := 3 + int(2*w.random.ExpFloat64()) // 99 % take at most 12
	switch c.to.illness {
	case isSlow:
		took *= slowness
	case isFailing:
		took, c.info = 1, unavailable
	case isFrozen:
		took, c.info = giveUp, gbalancer.DoneInfo{Err: errDeadline, BytesSent: true}
	}
	c.to.picked++
	end := (w.now + min(took, giveUp)) % len(w.ending)
	w.ending[end] = append(w.ending[end], c)
}

func (w *world) end(c simCall) {
	w.seen.all++
	w.seen.took[w.now-c.began]++
	if c.info.Err != nil {
		w.seen.failed++
	}
	if c.done != nil {
		c.done(c.info)
	}
}

// quantile returns how long the share q of the calls took at most.
func (o *observations) quantile(q float64) time.Duration {
	left := int(q * float64(o.all))
	for steps, calls := range o.took {
		if left -= calls; left < 0 {
			return time.Duration(steps) * step
		}
	}
	return deadline
}

// errors returns the part of the calls that failed, in percent.
func (o *observations) errors() float64 { return 100 * float64(o.failed) / float64(o.all) }

// close ends the calls in hand and the policy.
func (w *world) close() {
	for _, calls := range w.ending {
		for _, c := range calls {
			w.end(c)
		}
	}
	w.policy.Close()
}
