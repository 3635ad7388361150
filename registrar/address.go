package registrar

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// AdvertiseEnv is the environment variable that says which address clients dial
// (see WithAdvertise), for where the program cannot know: behind NAT, in a
// container.
const AdvertiseEnv = "ROLLCALL_ADVERTISE"

// router is what a Registry has that is reached over a network.
type router interface {
	LocalAddr(ctx context.Context) (netip.Addr, error)
}

// advertise chooses the addresses, or notes that the route to the registry is
// to tell the host, and says whether the instance can then be registered.
func (l *life) advertise(listen string) error {
	inst := l.Instance()
	addrs, port, err := l.chooseAddrs(listen, inst.Addrs)
	if err != nil {
		return err
	}
	if len(addrs) == 0 {
		if _, ok := l.reg.(router); !ok {
			return fmt.Errorf("the server listens on all interfaces (%s) and the registry cannot tell which one to advertise: use WithAdvertise or the environment variable %s", listen, AdvertiseEnv)
		}
		l.port, l.listen = port, listen
		addrs = []string{net.JoinHostPort("localhost", port)} // in place of what locate finds
	}
	inst.Addrs = addrs
	if err := inst.Validate(); err != nil {
		return err
	}
	if l.port == "" {
		l.setAddrs(addrs)
	}
	return nil
}

// chooseAddrs returns the addresses to advertise; none, but the port, when the
// route to the registry has to tell.
func (l *life) chooseAddrs(listen string, given []string) (addrs []string, port string, err error) {
	host, port, _ := net.SplitHostPort(listen) // both empty for a listener of another kind
	switch env := os.Getenv(AdvertiseEnv); {
	case l.opts.advertise != "":
		addrs, err = explicit("WithAdvertise", l.opts.advertise, port)
	case len(given) > 0:
		if addrs, err = given, dialable(given...); err != nil {
			err = fmt.Errorf("Instance.Addrs: %w", err)
		}
	case env != "":
		addrs, err = explicit(AdvertiseEnv, env, port)
	case port == "":
		err = fmt.Errorf("the listener's address %q is not host:port: use WithAdvertise or the environment variable %s", listen, AdvertiseEnv)
	case host != "" && !everywhere(host):
		addrs = []string{net.JoinHostPort(host, port)}
		err = dialable(addrs...)
	}
	return addrs, port, err
}

// explicit is host:port of what somebody wrote: that, or a host alone.
func explicit(source, text, port string) ([]string, error) {
	addr := text
	if _, _, err := net.SplitHostPort(text); err != nil {
		if port == "" {
			return nil, fmt.Errorf("%s is %q: it has no port and the listener has none either", source, text)
		}
		addr = net.JoinHostPort(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), port)
	}
	if err := dialable(addr); err != nil {
		return nil, fmt.Errorf("%s is %q: %w", source, text, err)
	}
	return []string{addr}, nil
}

// everywhere says whether host stands for all interfaces.
func everywhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsUnspecified()
}

// dialable says whether other hosts can make something of the addresses.
func dialable(addrs ...string) error {
	for _, addr := range addrs {
		if err := registry.ValidateAddr(addr); err != nil {
			return err
		}
		host, _, _ := net.SplitHostPort(addr)
		ip, err := netip.ParseAddr(host)
		switch {
		case everywhere(host):
			return fmt.Errorf("%s stands for all interfaces: nobody can dial it", host)
		case ip.Zone() != "":
			return fmt.Errorf("the zone of %s means nothing to other hosts", host)
		case err != nil && strings.ContainsAny(host, ":/ "):
			return fmt.Errorf("%q is neither a host name nor an IP address", host)
		}
	}
	return nil
}

// locate asks the registry for the local address of the route to it, where
// nothing else has told the address.
func (l *life) locate(ctx context.Context) error {
	if l.port == "" {
		return nil
	}
	ip, err := l.reg.(router).LocalAddr(ctx)
	if err != nil {
		return fmt.Errorf("the local address of the route to the registry, to advertise: %w", err)
	}
	ip = ip.Unmap()
	addr := net.JoinHostPort(ip.String(), l.port)
	if err := dialable(addr); err != nil {
		return fmt.Errorf("the local address of the route to the registry cannot be advertised: %w", err)
	}
	if strings.HasPrefix(l.listen, "0.0.0.0:") && !ip.Is4() {
		return fmt.Errorf("the route to the registry is from %s, but the server listens on %s, which is IPv4 only", ip, l.listen)
	}
	if l.setAddrs([]string{addr}) && ip.IsLoopback() {
		l.opts.logger.Warn("registrar: the registry is on this host, so a loopback address is advertised, which no other host can reach; see WithAdvertise", slog.String("address", addr))
	}
	return nil
}
