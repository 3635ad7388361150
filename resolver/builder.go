// Package resolver finds the instances of a service in a registry and hands
// them to gRPC, for targets like
//
//	discovery:///greeter?zone=a&version=2
//
// The path is the service. Three slashes, because there is no host between the
// second and the third: the registry's addresses are given to the registry
// client. A name may contain slashes, as they are or as %2F, but not start or
// end with one. The query takes the options
//
//	zone       only instances in exactly this zone
//	version    only instances of exactly this version
//	authority  the host or host:port to use as :authority and to verify TLS
//	           certificates against; by default that is the service
//
// Zone is a filter, not a preference: instances elsewhere are left out even when
// there are no others.
//
// # When there is nobody to call
//
// The channel is never wedged: whatever goes wrong is tried again, except a
// target that cannot be understood. grpc.NewClient does not look at the target,
// so such a target fails the first call and every later one; a program that
// wants to know at start asks ValidateTarget.
//
// Until the registry has answered, calls wait, for 5 s at most. Once it is known
// that there is nobody to call, calls fail at once with the reason, and
// wait-for-ready calls wait on. An unreachable registry harms nobody who has
// resolved before: calls go on with the last set. A service that is gone from
// the registry, or whose instances all stopped fitting the target or the
// channel's credentials, leaves no one to call, and calls fail with the reason
// again.
//
// In a program that has rollcall's policy (package balancer), a channel that has
// had no instances yet is given an empty state with the reason besides the error:
// that policy shows it and lets a call's record know that nobody was picked. gRPC's
// round_robin, used in such a program, shows "no children to pick from" instead.
//
// # What policies see
//
// Every instance is one endpoint, with all its addresses, and carries the
// registry's description of itself (package endpoint). It also carries what gRPC's
// own policies read, so that they work as they are (see the examples): the weight,
// and the ID as its key on the ring of ring_hash. There a request goes to the same
// ID also after a restart, whatever its address. When an instance leaves, its
// requests move, and about as many of the others', because gRPC then gives those
// that stay more places on the ring.
//
// Draining instances are among the endpoints, for the policy to let them finish:
// rollcall's does, gRPC's own send them calls. WithoutDraining leaves them out. For
// policies that know addresses only, State.Addresses holds the first address of
// each instance that is not draining.
//
// # When there are no calls
//
// gRPC closes the resolver, the policy and the connections of a channel that has
// had no call for 30 minutes. The next call makes new ones and waits for the
// registry's answer and a connection. What the policy had learnt of the instances
// is lost by that. The service config that WithServiceConfig sets is not, also not
// one set meanwhile, nor is what belongs to the registry client and to interceptors.
// grpc.WithIdleTimeout(0) switches it off.
//
// # Proxies
//
// When HTTPS_PROXY is set, gRPC sends connections through that proxy and drops
// what the endpoints carry on the way, so that weights and identities are lost;
// a resolver cannot prevent it. Pass DialOptions or grpc.WithNoProxy to connect
// directly, or list the servers' networks in NO_PROXY.
package resolver

import (
	"context"
	"errors"
	"log/slog"

	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// Scheme is the scheme of the targets that this resolver resolves.
const Scheme = "discovery"

// Registry is what the resolver needs of a registry; any registry.Registry will
// do. Watch must not wait for an answer.
type Registry interface {
	Watch(ctx context.Context, service string) (registry.Watcher, error)
}

// Option changes how a Builder's resolvers work.
type Option func(*options)

type options struct {
	serverName      func(registry.Instance) string
	logger          *slog.Logger
	withoutDraining bool
	serviceConfig   *ServiceConfig
}

// WithServerName makes name say, for each instance, which name its TLS
// certificate is verified against and which :authority its calls carry; "" means
// that of the channel. It takes precedence over the target's authority and over
// the credentials' own server name, but not over grpc.WithAuthority. By default
// all instances use the channel's.
//
// What name returns may depend on the instance only. Whoever can write to the
// registry can choose what it depends on, so do not take the name from the
// instance as it is: derive or check it, or a rogue instance names itself by a
// certificate that it has.
func WithServerName(name func(registry.Instance) string) Option {
	return func(o *options) {
		if name != nil {
			o.serverName = name
		}
	}
}

// WithLogger makes resolvers log when the set they found changes or cannot be
// found. By default nothing is logged.
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) {
		if logger != nil {
			o.logger = logger
		}
	}
}

// WithoutDraining leaves draining instances out as long as there are others, for
// policies that do not know of draining: gRPC's own. Calls in hand are finished.
// With rollcall's policy it gains nothing, and costs a new connection when an
// instance wants calls again.
func WithoutDraining() Option { return func(o *options) { o.withoutDraining = true } }

// WithServiceConfig makes channels use the service config, and every later one
// from the moment it is set: the next call goes by it, those in hand by what they
// began with. While the policy keeps its name, and rollcall's has one for all
// pickers, no connection is closed and nothing is forgotten. For another policy
// gRPC makes new connections, and uses the old ones until those are ready.
//
// A service config replaces another one whole: until there is one, that of
// grpc.WithDefaultServiceConfig is in force, and afterwards nothing of it is. A
// channel with grpc.WithDisableServiceConfig keeps its default.
func WithServiceConfig(config *ServiceConfig) Option {
	return func(o *options) { o.serviceConfig = config }
}

// NewBuilder returns what grpc.WithResolvers takes: it resolves the targets of
// Scheme by watching reg, for any number of channels. When reg is closed before
// them they go on with what they have.
func NewBuilder(reg Registry, opts ...Option) gresolver.Builder {
	b := &builder{reg: reg, options: options{
		serverName: func(registry.Instance) string { return "" },
		logger:     slog.New(slog.DiscardHandler),
	}}
	for _, opt := range opts {
		opt(&b.options)
	}
	return b
}

// Register makes reg resolve the targets of Scheme in the whole process, for
// programs that can only be given a target string. As with gRPC's own Register,
// call it before any channel is made; the last call wins. Everybody else passes
// NewBuilder to grpc.WithResolvers.
func Register(reg Registry, opts ...Option) { gresolver.Register(NewBuilder(reg, opts...)) }

type builder struct {
	reg Registry
	options
}

// AuthorityOverrider is how gRPC asks for the authority of one target.
var _ gresolver.AuthorityOverrider = (*builder)(nil)

func (*builder) Scheme() string { return Scheme }

// Build never waits for the registry, and fails only for what cannot heal: gRPC
// does not call it again while the channel is in use.
func (b *builder) Build(t gresolver.Target, cc gresolver.ClientConn, opts gresolver.BuildOptions) (gresolver.Resolver, error) {
	if b.reg == nil {
		return nil, errors.New("resolver: NewBuilder was given no registry")
	}
	parsed, err := parseTarget(t.URL)
	if err != nil {
		return nil, err
	}
	return start(b, parsed, cc, opts), nil
}

// OverrideAuthority also decides for targets that Build will refuse.
func (b *builder) OverrideAuthority(t gresolver.Target) string {
	parsed, err := parseTarget(t.URL)
	if err != nil {
		return encodeAuthority(t.Endpoint())
	}
	if parsed.authority != "" {
		return parsed.authority
	}
	return encodeAuthority(parsed.service)
}
