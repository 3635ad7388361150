package balancer_test

import (
	"fmt"
	"log"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/balancer"
)

func ExampleServiceConfig() {
	conn, err := grpc.NewClient("dns:///greeter.example:9000",
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.WeightedRoundRobin{})),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(balancer.ServiceConfig(balancer.Random{}))
	// Output: {"loadBalancingConfig":[{"rollcall":{"picker":{"random":{}}}}]}
}

// The rest of a service config rides along.
func ExampleWithBase() {
	fmt.Println(balancer.ServiceConfig(balancer.RoundRobin{},
		balancer.WithBase(`{"methodConfig": [{"name": [{"service": "shop.Orders"}], "timeout": "1s"}]}`)))
	// Output: {"loadBalancingConfig":[{"rollcall":{"picker":{"round_robin":{}}}}],"methodConfig":[{"name":[{"service":"shop.Orders"}],"timeout":"1s"}]}
}

func ExampleParsePicker() {
	picker, err := balancer.ParsePicker("round_robin")
	fmt.Printf("%T %v\n", picker, err)
	_, err = balancer.ParsePicker("fastest")
	fmt.Println(err)
	// Output:
	// balancer.RoundRobin <nil>
	// balancer: unknown picker "fastest": the known ones are least_request, p2c, random, round_robin, weighted_round_robin
}
