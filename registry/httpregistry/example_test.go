package httpregistry_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
	"github.com/rollcall-go/rollcall/registry/registryserver"
)

// A server registers, a client looks it up. Here the registry runs in the same
// program; otherwise New gets the addresses of its nodes.
func Example() {
	node, err := registryserver.New(registryserver.WithEnv("prod"))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	web := httptest.NewServer(node)
	defer web.Close()

	reg, err := httpregistry.New([]string{web.URL}, httpregistry.WithEnv("prod"))
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	registration, err := reg.Register(ctx, registry.Instance{
		Service: "greeter", ID: "greeter-1", Addrs: []string{"10.0.0.7:9000"}, Weight: 10, Zone: "a",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer registration.Deregister(ctx)

	snap, err := reg.Fetch(ctx, "greeter")
	if err != nil {
		log.Fatal(err)
	}
	for _, inst := range snap.Instances {
		fmt.Println(inst.ID, inst.Addrs, "weight", inst.Weight, "zone", inst.Zone)
	}
	// Output: greeter-1 [10.0.0.7:9000] weight 10 zone a
}
