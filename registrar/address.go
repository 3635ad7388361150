package registrar

import (
	"context"
	"fmt"
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
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		host, port = "", "" // a listener of another kind: it has to be told
	}
	source, told := "WithAdvertise", l.opts.advertise
	if told == "" && len(given) > 0 {
		for _, addr := range given {
			if err := dialable(addr); err != nil {
				return nil, "", fmt.Errorf("Instance.Addrs: %w", err)
			}
		}
		return given, port, nil
	}
	if told == "" {
		source, told = AdvertiseEnv, os.Getenv(AdvertiseEnv)
	}
	if told != "" {
		addr, err := explicitAddr(told, port)
		if err != nil {
			return nil, "", fmt.Errorf("%s is %q: %w", source, told, err)
		}
		return []string{addr}, port, nil
	}
	switch ip, err := netip.ParseAddr(host); {
	case port == "":
		return nil, "", fmt.Errorf("the listener's address %q is not host:port: use WithAdvertise or the environment variable %s", listen, AdvertiseEnv)
	case host == "" || err == nil && ip.Unmap().IsUnspecified():
		return nil, port, nil
	default:
		addr := net.JoinHostPort(host, port)
		return []string{addr}, port, dialable(addr)
	}
}

// explicitAddr is host:port of what somebody wrote: that, or a host alone.
func explicitAddr(text, port string) (string, error) {
	addr := text
	if _, _, err := net.SplitHostPort(text); err != nil {
		if port == "" {
			return "", fmt.Errorf("it has no port and the listener has none either")
		}
		addr = net.JoinHostPort(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), port)
	}
	return addr, dialable(addr)
}

// dialable says whether other hosts can make something of addr.
func dialable(addr string) error {
	if err := registry.ValidateAddr(addr); err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Unmap().IsUnspecified():
		return fmt.Errorf("%s stands for all interfaces: nobody can dial it", host)
	case err == nil && ip.Zone() != "":
		return fmt.Errorf("the zone of %s means nothing to other hosts", host)
	case err != nil && strings.ContainsAny(host, ":/ "):
		return fmt.Errorf("%q is neither a host name nor an IP address", host)
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
	addr := net.JoinHostPort(ip.Unmap().String(), l.port)
	if err := dialable(addr); err != nil {
		return fmt.Errorf("the local address of the route to the registry cannot be advertised: %w", err)
	}
	if strings.HasPrefix(l.listen, "0.0.0.0:") && !ip.Unmap().Is4() {
		return fmt.Errorf("the route to the registry is from %s, but the server listens on %s, which is IPv4 only", ip, l.listen)
	}
	l.setAddrs([]string{addr})
	return nil
}
