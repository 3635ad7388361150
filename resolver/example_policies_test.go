package resolver_test

import (
	"context"
	"fmt"
	"log"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/randomsubsetting"
	_ "google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
	"github.com/rollcall-go/rollcall/resolver"
)

// greeters are the servers a, b and c of the service greeter, on a network in
// memory, and the registry that they are in.
func greeters() (network *testenv.Network, reg registry.Registry, stop func()) {
	network, reg = testenv.NewNetwork(), memory.New()
	server := make([]*grpc.Server, 3)
	for i, id := range []string{"a", "b", "c"} {
		inst := registry.Instance{Service: "greeter", ID: id, Addrs: []string{fmt.Sprintf("10.0.0.%d:9000", i+1)}}
		lis, err := network.Listen(inst.Addrs[0])
		if err != nil {
			log.Fatal(err)
		}
		server[i] = grpc.NewServer()
		echov1.RegisterEchoServer(server[i], testenv.NewEcho(id))
		go server[i].Serve(lis)
		if _, err := reg.Register(context.Background(), inst); err != nil {
			log.Fatal(err)
		}
	}
	return network, reg, func() {
		reg.Close()
		for _, s := range server {
			s.Stop()
		}
	}
}

// dial returns a channel to the greeters that uses this service config, and what
// makes a call on it and says who served it.
func dial(network *testenv.Network, reg registry.Registry, serviceConfig string) (conn *grpc.ClientConn, call func(context.Context) string) {
	conn, err := grpc.NewClient("discovery:///greeter",
		grpc.WithResolvers(resolver.NewBuilder(reg)),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithContextDialer(network.Dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	return conn, func(ctx context.Context) string {
		reply, err := echov1.NewEchoClient(conn).Get(ctx, &echov1.GetRequest{})
		if err != nil {
			log.Fatal(err)
		}
		return reply.GetInstanceId()
	}
}

// With gRPC's ring_hash, all calls with the same value in a header go to the same
// instance. Import google.golang.org/grpc/balancer/ringhash for it.
func Example_ringHash() {
	network, reg, stop := greeters()
	defer stop()
	conn, call := dial(network, reg, `{"loadBalancingConfig": [{"ring_hash_experimental": {"requestHashHeader": "user"}}]}`)
	defer conn.Close()

	for _, user := range []string{"ada", "bob", "eve", "ada", "bob", "eve"} {
		ctx := metadata.AppendToOutgoingContext(context.Background(), "user", user)
		fmt.Println(user, "is served by", call(ctx))
	}
	// Output:
	// ada is served by c
	// bob is served by b
	// eve is served by b
	// ada is served by c
	// bob is served by b
	// eve is served by b
}

// gRPC's least_request takes the less busy one of some instances drawn at random.
// Import google.golang.org/grpc/balancer/leastrequest for it.
func Example_leastRequest() {
	network, reg, stop := greeters()
	defer stop()
	conn, call := dial(network, reg, `{"loadBalancingConfig": [{"least_request_experimental": {"choiceCount": 2}}]}`)
	defer conn.Close()

	served := map[string]int{}
	for len(served) < 3 {
		served[call(context.Background())]++
	}
	fmt.Println("all have served")
	// Output: all have served
}

// gRPC's random_subsetting makes every client connect to some of the instances
// only. Import google.golang.org/grpc/balancer/randomsubsetting for it.
func Example_randomSubsetting() {
	network, reg, stop := greeters()
	defer stop()
	conn, call := dial(network, reg, `{"loadBalancingConfig": [{"random_subsetting_experimental":
		{"subsetSize": 2, "childPolicy": [{"round_robin": {}}]}}]}`)
	defer conn.Close()

	served := map[string]int{}
	for range 1000 {
		served[call(context.Background())]++
	}
	fmt.Println("at most two have served:", len(served) <= 2)
	// Output: at most two have served: true
}

// gRPC's round_robin takes each instance in turn, whatever its weight.
func Example_roundRobin() {
	network, reg, stop := greeters()
	defer stop()
	conn, call := dial(network, reg, `{"loadBalancingConfig": [{"round_robin": {}}]}`)
	defer conn.Close()

	served := map[string]int{}
	for len(served) < 3 {
		served[call(context.Background())]++
	}
	fmt.Println("all have served")
	// Output: all have served
}

// gRPC's pick_first sends all calls to one instance. With shuffleAddressList each
// client draws its own, by weight.
func Example_pickFirst() {
	network, reg, stop := greeters()
	defer stop()
	conn, call := dial(network, reg, `{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}`)
	defer conn.Close()

	served := map[string]int{}
	for range 1000 {
		served[call(context.Background())]++
	}
	fmt.Println("instances that have served:", len(served))
	// Output: instances that have served: 1
}
