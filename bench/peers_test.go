//go:build peers

package bench

import (
	"strconv"

	kregistry "github.com/go-kratos/kratos/v2/registry"
	"github.com/go-kratos/kratos/v2/selector"
	"github.com/go-kratos/kratos/v2/selector/p2c"
	"github.com/go-kratos/kratos/v2/selector/wrr"
	_ "github.com/go-kratos/kratos/v2/transport/grpc" // registers its policy
	"github.com/zeromicro/go-zero/core/logx"
	_ "github.com/zeromicro/go-zero/zrpc" // registers its policy
	gresolver "google.golang.org/grpc/resolver"
)

func init() {
	logx.Disable()
	kratos := func(name string, b selector.Builder) policy {
		return policy{
			name: "kratos." + name, policy: "selector", most: 1000, square: true,
			enter:   func() { selector.SetGlobalSelector(b) },
			address: kratosAddress,
		}
	}
	policies = append(policies,
		policy{name: "go-zero.p2c", policy: "p2c_ewma", most: 1000, square: true},
		kratos("p2c", p2c.NewBuilder()),
		kratos("wrr", wrr.NewBuilder()),
	)
}

// kratosInstances are by weight. They are shared, as to gRPC an address with
// another one is another address.
var kratosInstances = map[uint32]*kregistry.ServiceInstance{}

// kratosAddress adds to an address what kratos' own resolver does.
func kratosAddress(addr gresolver.Address, weight uint32) gresolver.Address {
	instance, ok := kratosInstances[weight]
	if !ok {
		instance = &kregistry.ServiceInstance{Metadata: map[string]string{"weight": strconv.Itoa(int(weight))}}
		kratosInstances[weight] = instance
	}
	addr.Attributes = addr.Attributes.WithValue("rawServiceInstance", instance)
	return addr
}
