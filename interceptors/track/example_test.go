package track_test

import (
	"fmt"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/interceptors/track"
)

// Another library's retries never go back to an instance that failed the call.
func Example() {
	conn, err := grpc.NewClient("dns:///greeter:9000",
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(balancer.RoundRobin{})),
		grpc.WithChainUnaryInterceptor(
			track.UnaryClientInterceptor(),
			retry.UnaryClientInterceptor(retry.WithMax(3), retry.WithBackoff(retry.BackoffLinear(50*time.Millisecond)))),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	fmt.Println(conn.Target(), err)
	// Output: dns:///greeter:9000 <nil>
}
