package balancer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/internal/fakecc"
	"github.com/rollcall-go/rollcall/pick"
	"github.com/rollcall-go/rollcall/registry"
)

// bed is the engine on a ClientConn without a network, in a bubble.
type bed struct {
	t *testing.T
	*engine
	cc *fakecc.ClientConn
}

// inBubble runs test with an engine that is closed at the end of the bubble.
func inBubble(t *testing.T, test func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cc := new(fakecc.ClientConn)
		b := &bed{t: t, cc: cc, engine: newEngine(cc, gbalancer.BuildOptions{})}
		defer func() {
			b.Close()
			if left := cc.SubConns(); len(left) > 0 {
				t.Errorf("%d connections are left after Close", len(left))
			}
		}()
		test(t, b)
	})
}

// server is an instance as tests write it: "a", or "a/life", at address a:1.
func server(name string, change ...func(*registry.Instance)) registry.Instance {
	id, life, _ := strings.Cut(name, "/")
	inst := registry.Instance{Service: "echo", ID: id, Life: life, Addrs: []string{id + ":1"}}
	for _, c := range change {
		c(&inst)
	}
	return inst
}

func weighing(w uint32) func(*registry.Instance) { return func(i *registry.Instance) { i.Weight = w } }
func at(addrs ...string) func(*registry.Instance) {
	return func(i *registry.Instance) { i.Addrs = addrs }
}
func in(zone string) func(*registry.Instance) { return func(i *registry.Instance) { i.Zone = zone } }
func draining(i *registry.Instance)           { i.Status = registry.Draining }

func servers(names ...string) (insts []registry.Instance) {
	for _, name := range names {
		insts = append(insts, server(name))
	}
	return insts
}

// stateOf is what a resolver says for these instances, fresh every time.
func stateOf(insts ...registry.Instance) gresolver.State {
	var s gresolver.State
	for _, inst := range insts {
		var ep gresolver.Endpoint
		for _, addr := range inst.Addrs {
			ep.Addresses = append(ep.Addresses, gresolver.Address{Addr: addr})
		}
		s.Endpoints = append(s.Endpoints, endpoint.Set(ep, inst.Clone()))
	}
	return s
}

// resolve gives the engine a picker and a set of instances.
func (b *bed) resolve(p Picker, insts ...registry.Instance) error {
	return b.resolveWith(configWith(p), insts...)
}

// resolveWith gives the engine a configuration and a set of instances.
func (b *bed) resolveWith(cfg *config, insts ...registry.Instance) error {
	return b.UpdateClientConnState(gbalancer.ClientConnState{BalancerConfig: cfg, ResolverState: stateOf(insts...)})
}

// up resolves and connects the instances.
func (b *bed) up(cfg *config, ids ...string) {
	b.t.Helper()
	b.resolveWith(cfg, servers(ids...)...)
	b.ready(ids...)
}

// sub returns the connection to the first address of the instance.
func (b *bed) sub(id string) *fakecc.SubConn {
	b.t.Helper()
	all := b.cc.SubConns()
	i := slices.IndexFunc(all, func(sc *fakecc.SubConn) bool { return sc.Addr == id+":1" })
	if i < 0 {
		b.t.Fatalf("there is no connection to %s", id)
	}
	return all[i]
}

// ready connects the instances and lets the engine publish them.
func (b *bed) ready(ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		b.sub(id).Ready()
	}
	b.pass()
}

// fail lets the instances fail to connect.
func (b *bed) fail(ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		b.sub(id).Fail(fmt.Errorf("%s refuses", id))
	}
	b.pass()
}

// pass lets everything settle that was put off.
func (b *bed) pass() {
	time.Sleep(gather)
	synctest.Wait()
}

// call is one pick with the record in ctx, by the picker that was published last.
func (b *bed) call(ctx context.Context) (id string, done func(gbalancer.DoneInfo), err error) {
	b.t.Helper()
	result, err := b.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: ctx, FullMethodName: "/echo.Echo/Get"})
	if err != nil {
		return "", nil, err
	}
	return b.idOf(result), result.Done, nil
}

// idOf returns who was picked, who must be ready.
func (b *bed) idOf(result gbalancer.PickResult) string {
	b.t.Helper()
	sc := result.SubConn.(*fakecc.SubConn)
	if sc.State() != connectivity.Ready {
		b.t.Errorf("picked %s, which is %v", sc.Addr, sc.State())
	}
	return strings.TrimSuffix(sc.Addr, ":1")
}

// counts is what was counted of an instance's calls.
func (b *bed) counts(id string) counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.engine.find(id, "").counts()
}

// picks makes n calls, one after the other, and returns who was picked.
func (b *bed) picks(ctx context.Context, n int) (ids []string) {
	b.t.Helper()
	for range n {
		id, done, err := b.call(ctx)
		if err != nil {
			b.t.Fatalf("after %v: %v", ids, err)
		}
		done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
		ids = append(ids, id)
	}
	return ids
}

// wantPicks makes n calls and checks how many each instance gets.
func (b *bed) wantPicks(n int, want map[string]int) {
	b.t.Helper()
	if got := count(b.picks(b.t.Context(), n)); fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("picked %v, want %v", got, want)
	}
}

func (b *bed) wantState(want connectivity.State) {
	b.t.Helper()
	if got := b.cc.State().ConnectivityState; got != want {
		b.t.Errorf("state %v, want %v", got, want)
	}
}

// wantError checks that a call fails with an error that contains all parts.
func (b *bed) wantError(ctx context.Context, parts ...string) {
	b.t.Helper()
	_, _, err := b.call(ctx)
	if err == nil || errors.Is(err, gbalancer.ErrNoSubConnAvailable) {
		b.t.Errorf("error %v, want one with %q", err, parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			b.t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func (b *bed) wantWaiting(ctx context.Context) {
	b.t.Helper()
	if _, _, err := b.call(ctx); err != gbalancer.ErrNoSubConnAvailable {
		b.t.Errorf("error %v, want that the call waits", err)
	}
}

// wantPublished checks how many pickers do published.
func (b *bed) wantPublished(what string, want int, do func()) {
	b.t.Helper()
	before := b.cc.Published()
	do()
	if got := b.cc.Published() - before; got != want {
		b.t.Errorf("%s published %d pickers, want %d", what, got, want)
	}
}

// recorded returns a context with a record.
func (b *bed) recorded() (context.Context, *pick.Record) { return pick.NewContext(b.t.Context()) }

// configWith is a configuration with this picker and what else is set.
func configWith(p Picker, set ...func(*settings)) *config {
	cfg := &config{settings: defaultSettings()}
	cfg.picker = p
	for _, s := range set {
		s(&cfg.settings)
	}
	return cfg
}
