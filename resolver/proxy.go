package resolver

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// behindProxy says whether gRPC will connect to any of the instances through an
// HTTP proxy. It then puts a resolver of its own between us and the channel,
// which shows in nothing but the type of cc, and which asks net/http about each
// address.
func behindProxy(cc gresolver.ClientConn, instances []registry.Instance) bool {
	return strings.Contains(fmt.Sprintf("%T", cc), "delegatingresolver") &&
		slices.ContainsFunc(instances, func(inst registry.Instance) bool {
			return slices.ContainsFunc(inst.Addrs, proxied)
		})
}

func proxied(addr string) bool {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}})
	return err == nil && proxy != nil
}
