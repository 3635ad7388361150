package balancer_test

import (
	"fmt"
	"log"
	"time"

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

// Each option adds a feature. What is not given has its default.
func ExampleWithEjection() {
	fmt.Println(balancer.ServiceConfig(balancer.RoundRobin{},
		balancer.WithEjection(balancer.Ejection{ConsecutiveFailures: 3})))
	// Output: {"loadBalancingConfig":[{"rollcall":{"ejection":{"consecutiveFailures":3},"picker":{"round_robin":{}}}}]}
}

func ExampleWithSlowStart() {
	fmt.Println(balancer.ServiceConfig(balancer.P2C{},
		balancer.WithSlowStart(balancer.SlowStart{Window: balancer.Duration(30 * time.Second)})))
	// Output: {"loadBalancingConfig":[{"rollcall":{"picker":{"p2c":{}},"slowStart":{"window":"30s"}}}]}
}

func ExampleWithZone() {
	fmt.Println(balancer.ServiceConfig(balancer.WeightedRoundRobin{},
		balancer.WithZone(balancer.Zone{Local: "eu-west-1a"})))
	// Output: {"loadBalancingConfig":[{"rollcall":{"picker":{"weighted_round_robin":{}},"zone":{"local":"eu-west-1a"}}}]}
}

func ExampleWithSubset() {
	fmt.Println(balancer.ServiceConfig(balancer.LeastRequest{ChoiceCount: 3},
		balancer.WithSubset(balancer.Subset{Size: 20})))
	// Output: {"loadBalancingConfig":[{"rollcall":{"picker":{"least_request":{"choiceCount":3}},"subset":{"size":20}}}]}
}

// Stall detection is on by default, and this switches it off.
func ExampleWithStallDetection() {
	fmt.Println(balancer.ServiceConfig(balancer.Random{},
		balancer.WithStallDetection(balancer.StallDetection{Off: true})))
	// Output: {"loadBalancingConfig":[{"rollcall":{"picker":{"random":{}},"stallDetection":{"off":true}}}]}
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
