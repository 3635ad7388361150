package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	gbalancer "google.golang.org/grpc/balancer"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/registry"
)

// drawn is whom a client is connected to of these instances.
func drawn(s Subset, insts []registry.Instance) map[string]bool {
	ids := map[string]bool{}
	for _, ep := range s.of(stateOf(insts...).Endpoints) {
		inst, _ := endpoint.From(ep)
		ids[inst.ID] = true
	}
	return ids
}

// without returns how many of a are not in b.
func without(a, b map[string]bool) (n int) {
	for id := range a {
		if !b[id] {
			n++
		}
	}
	return n
}

func numbered(n int) (insts []registry.Instance) {
	for i := range n {
		insts = append(insts, server(fmt.Sprintf("pod-%d", i)))
	}
	return insts
}

// Whoever comes or goes changes one connection at most, whatever the order.
func TestSubsetIsStable(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		s := Subset{Size: 1 + rng.Uint32N(20), Key: fmt.Sprint("client", seed)}
		all := numbered(200)
		insts, next := slices.Clone(all[:100]), all[100:]
		before := drawn(s, insts)
		for range 100 {
			i := rng.IntN(len(insts))
			most := 1
			switch rng.IntN(4) {
			case 0: // one goes
				if !before[insts[i].ID] {
					most = 0
				}
				insts = slices.Delete(insts, i, i+1)
			case 1: // one comes
				if len(next) > 0 {
					insts, next = slices.Insert(insts, i, next[0]), next[1:]
				}
			case 2: // a process replaces another one
				insts[i].Life, most = fmt.Sprint(rng.Uint64()), 0
			default:
				rng.Shuffle(len(insts), func(i, j int) { insts[i], insts[j] = insts[j], insts[i] })
				most = 0
			}
			after := drawn(s, insts)
			if got := without(after, before); got > most || len(after) != min(int(s.Size), len(insts)) {
				t.Fatalf("%d of %d connections are new, %d at most may be", got, len(after), most)
			}
			before = after
		}
	}
}

// Over many clients everybody gets as many connections as chance gives: the
// numbers follow a binomial distribution.
func TestSubsetSpreadsConnections(t *testing.T) {
	const clients, size, n = 2000, 10, 200
	for what, name := range map[string]func(i int) string{
		"numbers at the end":   func(i int) string { return fmt.Sprintf("greeter-%d", i) },
		"numbers in front":     func(i int) string { return fmt.Sprintf("%d.greeter.example", i) },
		"addresses":            func(i int) string { return fmt.Sprintf("10.0.%d.%d:9000", i/100, i%100) },
		"long and nearly same": func(i int) string { return fmt.Sprintf("%064d", i) },
	} {
		insts := numbered(n)
		for i := range insts {
			insts[i].ID = name(i)
		}
		connections := map[string]int{}
		endpoints := stateOf(insts...).Endpoints
		for client := range clients {
			s := Subset{Size: size, Key: fmt.Sprintf("host-%d/1", client)}
			for _, ep := range s.of(endpoints) {
				inst, _ := endpoint.From(ep)
				connections[inst.ID]++
			}
		}
		const mean = clients * size / float64(n)
		variance := mean * (1 - size/float64(n))
		var chi2 float64
		for _, inst := range insts {
			diff := float64(connections[inst.ID]) - mean
			chi2 += diff * diff / variance
		}
		// n degrees of freedom: six standard deviations of chi² around its mean.
		if math.Abs(chi2-n) > 6*math.Sqrt(2*n) {
			t.Errorf("%s: chi² = %.0f, want about %d", what, chi2, n)
		}
	}
}

func TestSubsetAndDraining(t *testing.T) {
	s := Subset{Size: 5, Key: "me"}
	insts := numbered(50)
	before := drawn(s, insts)
	drain := func(yes func(id string) bool) []registry.Instance {
		changed := slices.Clone(insts)
		for i := range changed {
			if yes(changed[i].ID) {
				draining(&changed[i])
			}
		}
		return changed
	}
	ups := func(ids map[string]bool, insts []registry.Instance) (n int) {
		for _, inst := range insts {
			if ids[inst.ID] && inst.Status != registry.Draining {
				n++
			}
		}
		return n
	}
	some := drain(func(id string) bool { return before[id] })
	after := drawn(s, some)
	if without(before, after) > 0 || ups(after, some) != 5 {
		t.Errorf("connected to %v, and when those drain to %v: want five more", before, after)
	}
	if got := drawn(s, drain(func(id string) bool { return !before[id] })); without(got, before) > 0 {
		t.Errorf("when all others drain: %v, want the same as before, %v", got, before)
	}
	if got := drawn(s, drain(func(string) bool { return true })); len(got) != 5 || without(got, before) > 0 {
		t.Errorf("when all drain: %v, want %v", got, before)
	}
}

func TestSubsetOfFew(t *testing.T) {
	endpoints := stateOf(numbered(5)...).Endpoints
	for _, s := range []Subset{{}, {Size: 5}, {Size: 6}, {Size: math.MaxUint32}} {
		var got []gresolver.Endpoint
		if allocs := testing.AllocsPerRun(10, func() { got = s.of(endpoints) }); allocs > 0 || len(got) != 5 {
			t.Errorf("%+v: %d of 5 endpoints, and %v allocations", s, len(got), allocs)
		}
	}
	broken := append(endpoints[:5:5], gresolver.Endpoint{})
	if got := (Subset{Size: 5}).of(broken); len(got) != 5 {
		t.Errorf("%d endpoints, want the 5 that have addresses", len(got))
	}
	if got := (Subset{Size: 1}).of([]gresolver.Endpoint{{}, {}}); len(got) != 0 {
		t.Errorf("drew %v from endpoints without addresses", got)
	}
}

// A subset that is switched on, changed and switched off keeps the connections
// that belong to it.
func TestSubsetConnects(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		insts := numbered(20)
		for _, size := range []uint32{0, 4, 8, 2, 0} {
			kept := b.cc.SubConns()
			cfg := configWith(RoundRobin{}, func(s *settings) { s.subset = Subset{Size: size, Key: "me"} })
			if err := b.UpdateClientConnState(gbalancer.ClientConnState{BalancerConfig: cfg, ResolverState: stateOf(insts...)}); err != nil {
				t.Fatal(err)
			}
			now := b.cc.SubConns()
			if want := int(size); len(now) != want && size > 0 || size == 0 && len(now) != 20 {
				t.Errorf("%d connections with a size of %d", len(now), size)
			}
			for _, sc := range now {
				if len(kept) > len(now) && !slices.Contains(kept, sc) {
					t.Errorf("a new connection to %s when the subset shrank", sc.Addr)
				}
			}
		}
	})
}

func TestSubsetKeyDiffersByDefault(t *testing.T) {
	s, err := Subset{Size: 3}.complete()
	if err != nil || s.Key == "" {
		t.Errorf("key %q, %v", s.Key, err)
	}
	if s, _ := (Subset{Size: 3, Key: "mine"}).complete(); s.Key != "mine" {
		t.Errorf("key %q", s.Key)
	}
}
