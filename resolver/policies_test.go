package resolver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/randomsubsetting"
	_ "google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// underPolicy runs the test with these servers and a channel that uses one of
// gRPC's own policies.
func underPolicy(t *testing.T, policy, config string, servers []registry.Instance, test func(t *testing.T, sys *testenv.System, conn *grpc.ClientConn, servers map[string]*testenv.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sys, started := testenv.New(t), map[string]*testenv.Server{}
		for _, inst := range servers {
			started[inst.ID] = sys.Start(inst)
		}
		conn := sys.Dial(echoTarget, grpc.WithResolvers(NewBuilder(sys.Registry)),
			grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"loadBalancingConfig":[{%q:%s}]}`, policy, config)))
		conn.Connect()
		synctest.Wait()
		test(t, sys, conn, started)
	})
}

func named(ids ...string) (servers []registry.Instance) {
	for _, id := range ids {
		servers = append(servers, registry.Instance{ID: id})
	}
	return servers
}

// owners says who serves each of the users u0 to u399.
func owners(t *testing.T, conn *grpc.ClientConn) map[string]string {
	t.Helper()
	owner := map[string]string{}
	for i := range 400 {
		user := fmt.Sprint("u", i)
		reply, err := echov1.NewEchoClient(conn).Get(metadata.AppendToOutgoingContext(t.Context(), "user", user), &echov1.GetRequest{})
		if err != nil {
			t.Fatal(err)
		}
		owner[user] = reply.GetInstanceId()
	}
	return owner
}

// moved counts the users of each owner who have another one now.
func moved(before, after map[string]string) map[string]int {
	moves := map[string]int{}
	for user, owner := range before {
		if after[user] != owner {
			moves[owner]++
		}
	}
	return moves
}

func count(owners map[string]string) map[string]int {
	counts := map[string]int{}
	for _, owner := range owners {
		counts[owner]++
	}
	return counts
}

const byUser = `{"requestHashHeader":"user"}`

func TestRingHash(t *testing.T) {
	servers := named("a", "b", "c", "d", "e")
	servers[0].Weight = 2
	underPolicy(t, "ring_hash_experimental", byUser, servers, func(t *testing.T, sys *testenv.System, conn *grpc.ClientConn, started map[string]*testenv.Server) {
		before := owners(t, conn)
		if got := count(before); got["a"] < 110 || got["a"] > 160 || len(got) != 5 {
			t.Errorf("%v, want about a third for a, whose weight is 2 of 6", got)
		}
		unmoved := func(when string) {
			t.Helper()
			if got := moved(before, owners(t, conn)); len(got) > 0 {
				t.Errorf("%s: users of %v have moved", when, got)
			}
		}
		unmoved("nothing happened")

		started["b"].Stop()
		started["b"].Deregister()
		started["b"] = started["b"].Restart(func(i *registry.Instance) { i.Addrs = []string{sys.Addr()} })
		synctest.Wait()
		unmoved("b restarted at another address")

		started["c"].Kill() // and stays in the registry
		synctest.Wait()
		if got, want := moved(before, owners(t, conn)), map[string]int{"c": count(before)["c"]}; !maps.Equal(got, want) {
			t.Errorf("c was killed: users of %v have moved, want %v", got, want)
		}
	})
}

// Who leaves the registry leaves the ring. gRPC then gives the others more places
// on it, so that some users move between them, unless each has one place only.
func TestRingHashWhenAnInstanceLeaves(t *testing.T) {
	for _, test := range []struct {
		config string
		others float64 // the most of the others' users that may move
	}{
		{`{"requestHashHeader":"user"}`, 0.25},
		{`{"requestHashHeader":"user","minRingSize":1}`, 0},
	} {
		underPolicy(t, "ring_hash_experimental", test.config, named("a", "b", "c", "d", "e"), func(t *testing.T, _ *testenv.System, conn *grpc.ClientConn, started map[string]*testenv.Server) {
			before := owners(t, conn)
			started["c"].Deregister()
			synctest.Wait()
			moves := moved(before, owners(t, conn))
			of := count(before)
			if moves["c"] != of["c"] {
				t.Errorf("%d users of c have moved, want all %d", moves["c"], of["c"])
			}
			others := 0
			for owner, n := range moves {
				if owner != "c" {
					others += n
				}
			}
			if float64(others) > test.others*float64(400-of["c"]) {
				t.Errorf("%s: %d users of others than c have moved: %v", test.config, others, moves)
			}
		})
	}
}

func TestLeastRequest(t *testing.T) {
	underPolicy(t, "least_request_experimental", `{"choiceCount":10}`, named("a", "b"), func(t *testing.T, _ *testenv.System, conn *grpc.ClientConn, started map[string]*testenv.Server) {
		// With as many draws the one that is busy is missed once in a thousand times.
		started["a"].OnCall(testenv.Hang)
		started["b"].OnCall(testenv.Hang)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 100 {
			go echov1.NewEchoClient(conn).Get(ctx, &echov1.GetRequest{})
			synctest.Wait()
		}
		if a, b := started["a"].Executed(), started["b"].Executed(); a+b != 100 || a < 45 || b < 45 {
			t.Errorf("a has %d calls in hand and b %d, want them to have as many of the 100", a, b)
		}
	})
}

func TestRandomSubsetting(t *testing.T) {
	underPolicy(t, "random_subsetting_experimental", `{"subsetSize":2,"childPolicy":[{"round_robin":{}}]}`, named("a", "b", "c", "d", "e"), func(t *testing.T, sys *testenv.System, conn *grpc.ClientConn, started map[string]*testenv.Server) {
		chosen := testenv.Shares(t, conn, 10)
		if len(chosen) != 2 {
			t.Fatalf("calls went to %v, want two instances", chosen)
		}
		for id := range started {
			started[id].Update(func(i *registry.Instance) { i.Weight = 7 })
		}
		synctest.Wait()
		if again := testenv.Shares(t, conn, 10); !maps.Equal(again, chosen) {
			t.Errorf("new weights: calls went to %v, and before to %v", again, chosen)
		}
		for id, server := range started {
			if dials := sys.Network.Dials(server.Addr); (dials > 0) != (chosen[id] > 0) {
				t.Errorf("%s: %d connections, and %d calls", id, dials, chosen[id])
			}
		}
		left := slices.Collect(maps.Keys(chosen))[0]
		started[left].Deregister()
		synctest.Wait()
		if got := testenv.Shares(t, conn, 10); len(got) != 2 || got[left] > 0 {
			t.Errorf("%s left: calls went to %v", left, got)
		}
	})
}

func TestRoundRobin(t *testing.T) {
	servers := named("a", "b", "c")
	servers[0].Weight = 100 // which it does not look at
	underPolicy(t, "round_robin", `{}`, servers, func(t *testing.T, _ *testenv.System, conn *grpc.ClientConn, started map[string]*testenv.Server) {
		if got, want := testenv.Shares(t, conn, 30), (map[string]int{"a": 10, "b": 10, "c": 10}); !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		started["b"].Deregister()
		synctest.Wait()
		if got, want := testenv.Shares(t, conn, 30), (map[string]int{"a": 15, "c": 15}); !maps.Equal(got, want) {
			t.Errorf("b left: %v, want %v", got, want)
		}
	})
}

// pick_first shuffles by weight, if it is told to shuffle.
func TestPickFirst(t *testing.T) {
	servers := named("a", "b", "c")
	servers[2].Weight = 1e9
	underPolicy(t, "pick_first", `{"shuffleAddressList":true}`, servers, func(t *testing.T, _ *testenv.System, conn *grpc.ClientConn, started map[string]*testenv.Server) {
		if got, want := testenv.Shares(t, conn, 10), (map[string]int{"c": 10}); !maps.Equal(got, want) {
			t.Errorf("%v, want all calls at c, which has nearly all the weight", got)
		}
		started["c"].Deregister()
		synctest.Wait()
		if got := testenv.Shares(t, conn, 10); len(got) != 1 || got["c"] > 0 {
			t.Errorf("c left: %v, want all calls at one of the others", got)
		}
		if state := conn.GetState(); state != connectivity.Ready {
			t.Errorf("the channel is %v", state)
		}
	})
}

// gRPC's own policies send calls to whoever is among the endpoints.
func TestWithoutDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := testenv.New(t)
		a, b := sys.Start(registry.Instance{ID: "a"}), sys.Start(registry.Instance{ID: "b"})
		conn := sys.Dial(echoTarget, grpc.WithResolvers(NewBuilder(sys.Registry, WithoutDraining())), policy("round_robin"))
		conn.Connect()
		for _, step := range []struct {
			server *testenv.Server
			status registry.Status
			want   map[string]int
		}{
			{a, registry.Up, map[string]int{"a": 5, "b": 5}},
			{a, registry.Draining, map[string]int{"b": 10}},
			{b, registry.Draining, map[string]int{"a": 5, "b": 5}}, // better than nobody
			{a, registry.Up, map[string]int{"a": 10}},
		} {
			step.server.Update(func(i *registry.Instance) { i.Status = step.status })
			synctest.Wait()
			if got := testenv.Shares(t, conn, 10); !maps.Equal(got, step.want) {
				t.Errorf("%s is %v: %v, want %v", step.server.Instance().ID, step.status, got, step.want)
			}
		}
	})
}
