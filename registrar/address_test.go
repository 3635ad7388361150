package registrar_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
)

// routedRegistry is a registry that is reached over a network.
type routedRegistry struct {
	*slowRegistry
	local string // empty: the route cannot be told
	fails int    // so often, at first
}

func (r *routedRegistry) LocalAddr(context.Context) (netip.Addr, error) {
	if r.fails > 0 {
		r.fails--
		return netip.Addr{}, errDown
	}
	return netip.ParseAddr(r.local)
}

// idle is a listener at some address, to which nobody ever connects.
type idle struct {
	addr   string
	closed chan struct{}
}

func (l idle) Accept() (net.Conn, error) { <-l.closed; return nil, net.ErrClosed }
func (l idle) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}
func (l idle) Addr() net.Addr  { return l }
func (l idle) Network() string { return "tcp" }
func (l idle) String() string  { return l.addr }

func TestAdvertisedAddress(t *testing.T) {
	tests := map[string]struct {
		listen string
		option string
		given  []string
		env    string
		local  string // what the registry's route says; - if it cannot
		want   string // addresses, or part of the error
		fails  bool
	}{
		"the listener's":           {listen: "10.0.0.1:9000", want: "10.0.0.1:9000"},
		"the listener's, IPv6":     {listen: "[2001:db8::1]:9000", want: "[2001:db8::1]:9000"},
		"the listener's, loopback": {listen: "127.0.0.1:9000", want: "127.0.0.1:9000"},
		"a link-local listener":    {listen: "[fe80::1%eth0]:9000", want: "zone", fails: true},
		"a listener without port":  {listen: "bufconn", want: "not host:port", fails: true},

		"the option":                     {listen: "10.0.0.1:9000", option: "example.com:80", given: []string{"10.0.0.2:1"}, env: "10.0.0.3:1", want: "example.com:80"},
		"the option without port":        {listen: "0.0.0.0:9000", option: "example.com", want: "example.com:9000"},
		"the option without any port":    {listen: "bufconn", option: "example.com", want: "no port", fails: true},
		"the option, IPv6":               {listen: "[::]:9000", option: "2001:db8::1", want: "[2001:db8::1]:9000"},
		"the option, IPv6 in brackets":   {listen: "[::]:9000", option: "[2001:db8::1]", want: "[2001:db8::1]:9000"},
		"the option, IPv6 and port":      {listen: "bufconn", option: "[2001:db8::1]:80", want: "[2001:db8::1]:80"},
		"the option says everything":     {listen: "10.0.0.1:9000", option: "0.0.0.0:80", want: `WithAdvertise is "0.0.0.0:80": 0.0.0.0 stands for all`, fails: true},
		"the option says IPv6 all":       {listen: "10.0.0.1:9000", option: "[::]", want: ":: stands for all", fails: true},
		"the option says mapped all":     {listen: "10.0.0.1:9000", option: "[::ffff:0.0.0.0]:1", want: "stands for all", fails: true},
		"the option is nonsense":         {listen: "10.0.0.1:9000", option: "http://example.com", want: "not host:port", fails: true},
		"the option's port is nonsense":  {listen: "10.0.0.1:9000", option: "example.com:http", want: "port from 1 to 65535", fails: true},
		"the option's port is 0":         {listen: "10.0.0.1:9000", option: "example.com:0", want: "port from 1 to 65535", fails: true},
		"the option has no host":         {listen: "10.0.0.1:9000", option: ":80", want: "with a host", fails: true},
		"the option has spaces":          {listen: "10.0.0.1:9000", option: "example com", want: "neither a host name", fails: true},
		"the instance's":                 {listen: "0.0.0.0:9000", given: []string{"10.0.0.2:1", "[2001:db8::1]:1"}, env: "10.0.0.3", want: "10.0.0.2:1 [2001:db8::1]:1"},
		"the instance says everything":   {listen: "10.0.0.1:9000", given: []string{"[::]:1"}, want: "Instance.Addrs: :: stands", fails: true},
		"the environment":                {listen: "10.0.0.1:9000", env: "10.0.0.3:80", want: "10.0.0.3:80"},
		"the environment without port":   {listen: "10.0.0.1:9000", env: "10.0.0.3", want: "10.0.0.3:9000"},
		"the environment is nonsense":    {listen: "10.0.0.1:9000", env: "::::", want: `ROLLCALL_ADVERTISE is "::::"`, fails: true},
		"all interfaces":                 {listen: "[::]:9000", local: "10.1.1.1", want: "10.1.1.1:9000"},
		"all interfaces without a host":  {listen: ":9000", local: "10.1.1.1", want: "10.1.1.1:9000"},
		"all IPv4 interfaces":            {listen: "0.0.0.0:9000", local: "::ffff:10.1.1.1", want: "10.1.1.1:9000"},
		"all interfaces, IPv6":           {listen: "[::]:9000", local: "2001:db8::2", want: "[2001:db8::2]:9000"},
		"all IPv4 interfaces, IPv6":      {listen: "0.0.0.0:9000", local: "2001:db8::2", want: "IPv4 only", fails: true},
		"all interfaces, zone":           {listen: "[::]:9000", local: "fe80::1%eth0", want: "zone", fails: true},
		"all interfaces, route to all":   {listen: "[::]:9000", local: "::", want: "stands for all", fails: true},
		"all interfaces, no route":       {listen: "[::]:9000", local: "", want: "route to the registry", fails: true},
		"all interfaces, route unknown":  {listen: "[::]:9000", local: "-", want: "use WithAdvertise or the environment variable ROLLCALL_ADVERTISE", fails: true},
		"all interfaces, option instead": {listen: "[::]:9000", local: "-", option: "a", want: "a:9000"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv(registrar.AdvertiseEnv, test.env)
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				r.lis.Close()
				r.lis = idle{test.listen, make(chan struct{})}
				var reg registrar.Registry = struct{ registrar.Registry }{r.reg} // which hides LocalAddr
				if test.local != "-" {
					reg = &routedRegistry{r.reg, test.local, 0}
				}
				r.Registrar = registrar.New(reg, registry.Instance{Service: service, Addrs: test.given}, registrar.WithAdvertise(test.option))
				t.Cleanup(r.Stop)
				r.server = grpc.NewServer(r.ServerOptions()...)
				if test.fails {
					err := r.Serve(t.Context(), r.server, r.lis)
					if err == nil || !strings.Contains(err.Error(), test.want) {
						t.Errorf("got %v, want an error with %q", err, test.want)
					}
					return
				}
				r.serve()
				if got := strings.Join(r.Instance().Addrs, " "); got != test.want || r.State() != registrar.StateRegistered {
					t.Errorf("%q in state %v, want %q", got, r.State(), test.want)
				}
			})
		})
	}
}

func TestRouteIsLookedUpAgain(t *testing.T) {
	t.Setenv(registrar.AdvertiseEnv, "")
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.lis.Close()
		r.lis = idle{"[::]:9000", make(chan struct{})}
		reg := &routedRegistry{r.reg, "10.1.1.1", 3}
		r.Registrar = registrar.New(reg, registry.Instance{Service: service})
		t.Cleanup(r.Stop)
		r.server = grpc.NewServer(r.ServerOptions()...)
		r.serve()
		time.Sleep(5 * time.Second)
		if got := r.Instance().Addrs; len(got) != 1 || got[0] != "10.1.1.1:9000" || r.State() != registrar.StateRegistered {
			t.Errorf("%q in state %v", got, r.State())
		}
	})
}

func TestNoRouteIsTheReason(t *testing.T) {
	t.Setenv(registrar.AdvertiseEnv, "")
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.lis.Close()
		r.lis = idle{"[::]:9000", make(chan struct{})}
		r.Registrar = registrar.New(&routedRegistry{r.reg, "10.1.1.1", 1000}, registry.Instance{Service: service})
		r.server = grpc.NewServer(r.ServerOptions()...)
		if err := r.Serve(t.Context(), r.server, r.lis); !errors.Is(err, errDown) {
			t.Errorf("Serve returned %v", err)
		}
	})
}

func FuzzAdvertise(f *testing.F) {
	for _, seed := range []string{"", "a", "a:1", ":1", "[::1]", "::1", "[::1]:80", "0.0.0.0", "[fe80::1%lo]:1", "a b", "\x00"} {
		f.Add(seed, "10.0.0.1:9000")
		f.Add(seed, "[::]:9000")
	}
	f.Fuzz(func(t *testing.T, text, listen string) {
		addrs, port, err := registrar.ChooseAddrs(text, listen)
		switch {
		case err != nil:
			return
		case len(addrs) == 0:
			if text != "" || port == "" {
				t.Errorf("no address and no error for %q, port %q", text, port)
			}
			return
		}
		host, _, err := net.SplitHostPort(addrs[0])
		if errors.Join(err, registry.ValidateAddr(addrs[0])) != nil {
			t.Errorf("%q at %q gives %q, which cannot be dialled: %v", text, listen, addrs[0], err)
		}
		if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsUnspecified() {
			t.Errorf("%q at %q gives %q", text, listen, addrs[0])
		}
	})
}
