package balancer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/internal/fakecc"
	"github.com/rollcall-go/rollcall/pick"
	"github.com/rollcall-go/rollcall/registry"
)

// TestModel does random things to the engine and compares what it picks with
// what a model says may be picked: at every moment, not only when all is settled.
func TestModel(t *testing.T) {
	for seed := range uint64(100) {
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bed) {
				m := &model{bed: b, rng: rand.New(rand.NewPCG(seed, 0)), known: map[string]*modelled{}, closing: map[string]bool{}}
				for step := 0; step < 300 && !t.Failed(); step++ {
					m.step()
					m.consistent()
				}
				m.end()
			})
		}) {
			return
		}
	}
}

// model is what is true of the instances, by address: each process has its own.
type model struct {
	*bed
	rng     *rand.Rand
	config  *config
	known   map[string]*modelled
	closing map[string]bool // addresses whose process has said that it closes
	inHand  []func()        // ends a call
	did     []string
}

type modelled struct {
	inst   registry.Instance
	sub    *fakecc.SubConn
	child  *child
	tally  *tally
	failed bool // and not been ready since: TRANSIENT_FAILURE is sticky
}

func (m *model) step() {
	if m.config == nil {
		m.resolve()
	}
	switch m.rng.IntN(14) {
	case 0:
		m.resolve()
	case 1:
		m.do("resolver error")
		m.ResolverError(errors.New("resolver is unwell"))
	case 2:
		m.do("settle")
		m.pass()
		m.settled()
	case 3, 4, 5, 6, 7:
		m.transition()
	case 8:
		m.did = append(m.did, "time passes")
		time.Sleep(time.Duration(m.rng.Int64N(int64(3*time.Second)) + 1))
		synctest.Wait()
	case 9:
		m.endSome()
	default:
		m.pick()
	}
}

func (m *model) do(format string, args ...any) { m.did = append(m.did, fmt.Sprintf(format, args...)) }

func (m *model) errorf(format string, args ...any) {
	m.t.Helper()
	m.t.Errorf("%s\nafter:\n  %s", fmt.Sprintf(format, args...), strings.Join(m.did[max(0, len(m.did)-40):], "\n  "))
}

// resolve gives the engine another set and another configuration, or the same in
// another order.
func (m *model) resolve() {
	if m.config == nil || m.rng.IntN(3) == 0 {
		m.config = m.anyConfig()
	}
	var set []registry.Instance
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
		for _, life := range []string{"1", "2"} {
			if m.rng.IntN(3) > 0 {
				continue
			}
			inst := server(id+"/"+life, at(id+"."+life+":1"), weighing(1+m.rng.Uint32N(5)), aged(time.Duration(m.rng.Int64N(20))*time.Second))
			inst.Zone = []string{"x", "y", ""}[m.rng.IntN(3)]
			if m.rng.IntN(4) == 0 {
				inst.Status = registry.Draining
			}
			set = append(set, inst)
		}
	}
	m.rng.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	js, _ := json.Marshal(m.config)
	m.do("resolve with %s: %v", js, describe(set))
	if err := m.resolveWith(m.config, set...); (err != nil) != (len(set) == 0) {
		m.errorf("error %v", err)
	}
	before := m.known
	m.known = map[string]*modelled{}
	for _, ep := range m.config.subset.of(stateOf(set...).Endpoints) {
		inst, _ := endpoint.From(ep)
		addr := inst.Addrs[0]
		m.known[addr] = &modelled{}
		if old := before[addr]; old != nil {
			m.known[addr] = old
		}
		m.known[addr].inst = inst
	}
	m.connections()
}

// anyConfig has any picker and any features.
func (m *model) anyConfig() *config {
	all := pickersForTest()
	sometimes := func(set func(s *settings)) func(*settings) {
		if m.rng.IntN(2) == 0 {
			return func(*settings) {}
		}
		return set
	}
	return configWith(all[m.rng.IntN(len(all))],
		sometimes(ejecting(func(e *Ejection) {
			e.ConsecutiveFailures, e.BaseTime, e.Trials = 2, Duration(time.Second), 1+m.rng.Uint32N(2)
		})),
		sometimes(local([]string{"x", "y", "z"}[m.rng.IntN(3)])),
		sometimes(slowly()),
		sometimes(func(s *settings) { s.subset = Subset{Size: 1 + m.rng.Uint32N(6), Key: "me"} }),
		sometimes(withoutStalls))
}

func describe(set []registry.Instance) (out []string) {
	for _, inst := range set {
		out = append(out, fmt.Sprintf("%s w%d %v", inst.Addrs[0], inst.Weight, inst.Status))
	}
	return out
}

// transition lets one connection do what connections do.
func (m *model) transition() {
	subs := m.cc.SubConns()
	if len(subs) == 0 {
		return
	}
	sub := subs[m.rng.IntN(len(subs))]
	k := m.known[sub.Addr]
	next := connectivity.Idle
	switch sub.State() {
	case connectivity.Idle:
		next = connectivity.Connecting
	case connectivity.Connecting:
		next = connectivity.Ready
		if m.rng.IntN(3) == 0 {
			next = connectivity.TransientFailure
		}
	}
	m.do("%s: %v", sub.Addr, next)
	switch next {
	case connectivity.TransientFailure:
		k.failed = true
	case connectivity.Ready:
		k.failed = false
		delete(m.closing, sub.Addr) // it is on probation
	}
	published, lost := m.cc.Published(), sub.State() == connectivity.Ready
	sub.Set(next, errors.New(sub.Addr+" refuses"))
	if lost && m.cc.Published() == published {
		m.errorf("the loss of %s was not published in the same callback", sub.Addr)
	}
	synctest.Wait() // idle ones connect again
}

func (m *model) isReady(addr string) bool { return m.known[addr].sub.State() == connectivity.Ready }

// pick makes some calls with or without hints.
func (m *model) pick() {
	ctx, rec := m.t.Context(), (*pick.Record)(nil)
	avoided := map[string]bool{}
	if m.rng.IntN(2) == 0 {
		ctx, rec = m.recorded()
		for _, id := range []string{"a", "b", "c"} {
			if m.rng.IntN(3) == 0 {
				rec.Avoid(id)
				avoided[id] = true
			}
		}
		if m.rng.IntN(4) == 0 {
			m.pickPinned(string("abcdefx"[m.rng.IntN(7)]))
			return
		}
	}
	collide := m.rng.IntN(2) == 0
	for range 1 + m.rng.IntN(4) {
		if collide {
			m.position.jostle(m.rng)
		}
		method := []string{unaryMethod, streamMethod}[m.rng.IntN(2)]
		result, err := m.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: ctx, FullMethodName: method})
		if err != nil {
			m.do("pick, avoiding %v: %v", avoided, err)
			if slices.ContainsFunc(addrsOf(m.known), m.isReady) {
				m.errorf("no pick, though somebody is ready: %v", err)
			}
			return
		}
		addr := result.SubConn.(*fakecc.SubConn).Addr
		m.do("pick, avoiding %v: %s", avoided, addr)
		m.checkPick(addr, avoided)
		if rec != nil {
			avoided[addr[:1]] = true
		}
		m.finish(addr, result.Done)
	}
}

func addrsOf(known map[string]*modelled) (addrs []string) {
	for addr := range known {
		addrs = append(addrs, addr)
	}
	slices.Sort(addrs)
	return addrs
}

func (m *model) finish(addr string, done func(gbalancer.DoneInfo)) {
	info := gbalancer.DoneInfo{BytesSent: true, BytesReceived: true}
	switch m.rng.IntN(10) {
	case 0:
		info = gbalancer.DoneInfo{}
	case 1:
		info = gbalancer.DoneInfo{Err: errors.New("failed"), BytesSent: true}
	case 2, 3:
		info.Err = errUnavailable
	case 4:
		info = gbalancer.DoneInfo{Err: errDeadline, BytesSent: true}
	case 5:
		info.Trailer = drain.Closing(addr[:1], addr[2:3])
	}
	end := func() {
		m.do("%s ends a call with %v, closing %v", addr, info.Err, info.Trailer != nil)
		if info.Trailer != nil {
			m.closing[addr] = true
		}
		done(info)
	}
	if m.rng.IntN(3) == 0 {
		m.inHand = append(m.inHand, end)
	} else {
		end()
	}
}

// endSome ends some of the calls in hand, in any order.
func (m *model) endSome() {
	m.rng.Shuffle(len(m.inHand), func(i, j int) { m.inHand[i], m.inHand[j] = m.inHand[j], m.inHand[i] })
	n := m.rng.IntN(len(m.inHand) + 1)
	for _, end := range m.inHand[:n] {
		end()
	}
	m.inHand = m.inHand[n:]
}

// pickersForTest returns every picker, in a stable order.
func pickersForTest() []Picker {
	return []Picker{Random{}, RoundRobin{}, WeightedRoundRobin{}, P2C{}, LeastRequest{ChoiceCount: 2}, LeastRequest{ChoiceCount: 5}}
}
