package resolver

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/credentials/local"
	"google.golang.org/grpc/experimental/balancer/weight"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/registry"
)

// instance returns an instance of "greeter" with an address of its own.
func instance(id string, change ...func(*registry.Instance)) registry.Instance {
	inst := registry.Instance{Service: "greeter", ID: id, Life: id + "-life", Addrs: []string{id + ":1"}, Weight: 1, Status: registry.Up}
	for _, c := range change {
		c(&inst)
	}
	return inst
}

func ids(instances []registry.Instance) (ids []string) {
	for _, inst := range instances {
		ids = append(ids, inst.ID)
	}
	return ids
}

// speaks are credentials of which only the protocol's name is known.
type speaks string

func (p speaks) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: string(p)}
}
func (p speaks) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	panic("not for use")
}
func (p speaks) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	panic("not for use")
}
func (p speaks) Clone() credentials.TransportCredentials { return p }
func (p speaks) OverrideServerName(string) error         { return nil }

type bundle struct {
	transport credentials.TransportCredentials
}

func (b bundle) TransportCredentials() credentials.TransportCredentials {
	return b.transport
}
func (bundle) PerRPCCredentials() credentials.PerRPCCredentials      { return nil }
func (b bundle) NewWithMode(mode string) (credentials.Bundle, error) { return b, nil }

func TestChoose(t *testing.T) {
	var (
		tlsCreds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13})
		plain    = gresolver.BuildOptions{DialCreds: insecure.NewCredentials()}
		secure   = gresolver.BuildOptions{DialCreds: tlsCreds}
		overTLS  = func(i *registry.Instance) { i.TLS = true }
		zone     = func(z string) func(*registry.Instance) { return func(i *registry.Instance) { i.Zone = z } }
		version  = func(v string) func(*registry.Instance) { return func(i *registry.Instance) { i.Version = v } }
		at       = func(s int, addrs ...string) func(*registry.Instance) {
			return func(i *registry.Instance) {
				i.Addrs, i.FirstRegistered = addrs, time.Unix(int64(s), 0)
			}
		}
		draining = func(i *registry.Instance) { i.Status = registry.Draining }
	)
	for _, test := range []struct {
		name    string
		target  target
		opts    gresolver.BuildOptions
		all     []registry.Instance
		want    []string
		leftOut string
	}{
		{name: "all", opts: plain, all: []registry.Instance{instance("a"), instance("b", draining)}, want: []string{"a", "b"}},
		{
			name: "zone", target: target{zone: "a"}, opts: plain,
			all:  []registry.Instance{instance("1", zone("a")), instance("2", zone("b")), instance("3"), instance("4", zone("a"))},
			want: []string{"1", "4"}, leftOut: `2 not with zone "a" (zones seen: "", "b")`,
		},
		{
			name: "zone is not a prefix and has case", target: target{zone: "a"}, opts: plain,
			all:     []registry.Instance{instance("1", zone("a1")), instance("2", zone("A"))},
			leftOut: `2 not with zone "a" (zones seen: "A", "a1")`,
		},
		{
			name: "each is counted once, for the first rule", target: target{zone: "a", version: "2"}, opts: plain,
			all:     []registry.Instance{instance("1", zone("b"), version("1")), instance("2", zone("a"), version("1"))},
			leftOut: `1 not with zone "a" (zones seen: "b"); 1 not with version "2" (versions seen: "1")`,
		},
		{
			name: "many values", target: target{version: "x"}, opts: plain,
			all: slices.Collect(func(yield func(registry.Instance) bool) {
				for i := range 9 {
					yield(instance(fmt.Sprint(i), version(fmt.Sprint(i))))
				}
			}),
			leftOut: `9 not with version "x" (versions seen: "0", "1", "2", "3", "4", and 4 more)`,
		},
		{
			name: "plaintext servers, tls channel", opts: secure, all: []registry.Instance{instance("a"), instance("b", overTLS)},
			want: []string{"b"}, leftOut: "1 speaking plaintext, and the channel uses tls",
		},
		{
			name: "tls channel by bundle", opts: gresolver.BuildOptions{CredsBundle: bundle{tlsCreds}}, all: []registry.Instance{instance("a")},
			leftOut: "1 speaking plaintext, and the channel uses tls",
		},
		{
			name: "tls servers, insecure channel", opts: plain, all: []registry.Instance{instance("a"), instance("b", overTLS)},
			want: []string{"a"}, leftOut: "1 speaking tls, and the channel's credentials are insecure",
		},
		{
			name: "tls servers, local credentials", opts: gresolver.BuildOptions{DialCreds: local.NewCredentials()},
			all: []registry.Instance{instance("a", overTLS)}, leftOut: "1 speaking tls, and the channel's credentials are local",
		},
		{
			name: "what credentials of another kind can do is not judged", opts: gresolver.BuildOptions{DialCreds: speaks("alts")},
			all: []registry.Instance{instance("a"), instance("b", overTLS)}, want: []string{"a", "b"},
		},
		{
			name: "no address", opts: plain, all: []registry.Instance{instance("a", at(1)), instance("b")},
			want: []string{"b"}, leftOut: "1 without an address",
		},
		{
			name: "a crashed process and its successor", opts: plain,
			all:  []registry.Instance{instance("new", at(2, "x:1")), instance("old", at(1, "x:1")), instance("other", at(1, "y:1"))},
			want: []string{"new", "other"}, leftOut: "1 superseded by a later one on the same address",
		},
		{
			name: "one of several addresses is enough", opts: plain,
			all:  []registry.Instance{instance("new", at(2, "v4:1")), instance("old", at(1, "v4:1", "v6:1"))},
			want: []string{"new"}, leftOut: "1 superseded by a later one on the same address",
		},
		{
			name: "a tie leaves one, and always the same", opts: plain,
			all:  []registry.Instance{instance("a", at(1, "x:1", "y:1")), instance("b", at(1, "y:1", "x:1"))},
			want: []string{"a"}, leftOut: "1 superseded by a later one on the same address",
		},
		{
			name: "one that is left out supersedes nobody", target: target{version: "1"}, opts: plain,
			all:  []registry.Instance{instance("new", at(2, "x:1"), version("2")), instance("old", at(1, "x:1"), version("1"))},
			want: []string{"old"}, leftOut: `1 not with version "1" (versions seen: "2")`,
		},
		{name: "an address twice in one instance", opts: plain, all: []registry.Instance{instance("a", at(1, "x:1", "x:1"))}, want: []string{"a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := choose(rules(test.target, test.opts), test.all)
			if !slices.Equal(ids(got.instances), test.want) || got.leftOut != test.leftOut {
				t.Errorf("got %v, left out %q\nwant %v, left out %q", ids(got.instances), got.leftOut, test.want, test.leftOut)
			}
		})
	}
}

func TestState(t *testing.T) {
	up := instance("up", func(i *registry.Instance) { i.Addrs = []string{"10.0.0.1:1", "[::1]:1"} })
	leaving := instance("leaving", func(i *registry.Instance) { i.Status = registry.Draining })
	name := func(i registry.Instance) string { return i.ID + ".prod" }

	s := state([]registry.Instance{leaving, up}, name)
	if len(s.Endpoints) != 2 {
		t.Fatalf("got %d endpoints, want 2: a draining instance stays", len(s.Endpoints))
	}
	for i, want := range []registry.Instance{leaving, up} {
		if got, ok := endpoint.From(s.Endpoints[i]); !ok || !got.Equal(want) {
			t.Errorf("endpoint %d carries %+v, want %+v", i, got, want)
		}
	}
	var addrs []string
	for _, a := range s.Endpoints[1].Addresses {
		addrs = append(addrs, a.Addr+" "+a.ServerName)
		//lint:ignore SA1019 Nobody should use it, this package neither.
		if a.Attributes != nil || a.BalancerAttributes != nil {
			t.Errorf("%s has attributes: a change of weight would make a new connection", a.Addr)
		}
	}
	if want := []string{"10.0.0.1:1 up.prod", "[::1]:1 up.prod"}; !slices.Equal(addrs, want) {
		t.Errorf("got the addresses %q, want %q", addrs, want)
	}
	if len(s.Addresses) != 1 || s.Addresses[0].Addr != "10.0.0.1:1" || s.Addresses[0].ServerName != "up.prod" {
		t.Errorf("got State.Addresses %v, want the first address of the instance that is up", s.Addresses)
	}

	s = state([]registry.Instance{leaving}, name)
	if len(s.Addresses) != 1 || s.Addresses[0].Addr != "leaving:1" {
		t.Errorf("with nobody up, got State.Addresses %v, want the draining one", s.Addresses)
	}
}

// ring_hash adds weights up in 32 bits, and two of 1<<31 would be nothing.
func TestWeightsFitIntoRingHash(t *testing.T) {
	weighing := func(weights ...uint32) (seen []uint32, sum uint64) {
		var set []registry.Instance
		for i, w := range weights {
			set = append(set, instance(fmt.Sprint(i), func(i *registry.Instance) { i.Weight = w }))
		}
		for _, ep := range state(set, func(registry.Instance) string { return "" }).Endpoints {
			w := weight.FromEndpoint(ep).Weight
			seen, sum = append(seen, w), sum+uint64(w)
		}
		return seen, sum
	}
	for _, small := range [][]uint32{{1, 2, 3}, {math.MaxUint32}, {math.MaxUint32 - 1, 1}} {
		if got, _ := weighing(small...); !slices.Equal(got, small) {
			t.Errorf("%v became %v", small, got)
		}
	}
	for _, large := range [][]uint32{{1 << 31, 1 << 31}, {math.MaxUint32, math.MaxUint32, 1}, {math.MaxUint32, math.MaxUint32 - 1, 1, 1}, slices.Repeat([]uint32{math.MaxUint32}, 1000)} {
		got, sum := weighing(large...)
		if sum > math.MaxUint32 || slices.Min(got) == 0 {
			t.Errorf("%d weights of %v became %v: the sum is %d", len(large), large[0], got[0], sum)
		}
		if got[0] != got[1] || got[0] < 1<<20 {
			t.Errorf("%v became %v: not in proportion", large, got)
		}
	}
}
