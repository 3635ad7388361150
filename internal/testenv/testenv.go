// Package testenv is a whole system in memory for one test: a registry, any
// number of gRPC servers at addresses that no socket stands behind, and client
// connections to them. Everything in it works inside a synctest bubble, is torn
// down at the end of the test, and leaves no goroutine behind.
//
//	sys := testenv.New(t)
//	a := sys.Start(registry.Instance{ID: "a", Weight: 5})
//	conn := sys.Dial("discovery:///echo", grpc.WithResolvers(resolver.NewBuilder(sys.Registry)))
//	a.Kill()
//	sys.Registry.Set(registrytest.Fault{Down: true})
//
// It imports none of the packages it is there to test: what a test wants to try
// comes in as dial and server options.
package testenv

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry/memory"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

// Service is the name under which servers are registered that give none.
const Service = "echo"

// System is the world of one test.
type System struct {
	// Registry is the registry as the test's clients are given it; its Set makes
	// it misbehave. Servers are registered behind it, so they always tell it the
	// truth.
	Registry *registrytest.Faulty
	// Network is what all of them are connected by.
	Network *Network

	t     testing.TB
	store *memory.Registry

	mu sync.Mutex // guards all below; nothing is called under it
	// addrs counts the addresses given out, lives the processes started.
	addrs, lives int
}

// New returns an empty system that ends with the test.
func New(t testing.TB) *System {
	t.Helper()
	store := memory.New()
	s := &System{Registry: registrytest.NewFaulty(store), Network: NewNetwork(), t: t, store: store}
	t.Cleanup(func() {
		if err := s.Registry.Close(); err != nil {
			t.Errorf("testenv: close the registry: %v", err)
		}
	})
	return s
}

// Addr returns an address that nobody has yet.
func (s *System) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs++
	return fmt.Sprintf("10.0.%d.%d:9000", s.addrs/250, s.addrs%250+1)
}

// life returns a new name for a process of the instance.
func (s *System) life(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lives++
	return fmt.Sprintf("%s-life-%d", id, s.lives)
}

// Dial returns a connection to target that uses the system's network. opts come
// after that and win.
func (s *System) Dial(target string, opts ...grpc.DialOption) *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(s.Network.Dial),
		grpc.WithNoProxy(),
	}, opts...)...)
	if err != nil {
		s.t.Fatalf("testenv: dial %s: %v", target, err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// Shares makes n calls of Get one after another and returns how many each
// instance has served. A call that fails ends the test.
func Shares(t testing.TB, conn grpc.ClientConnInterface, n int) map[string]int {
	t.Helper()
	client, shares := echov1.NewEchoClient(conn), map[string]int{}
	for i := range n {
		reply, err := client.Get(t.Context(), &echov1.GetRequest{})
		if err != nil {
			t.Fatalf("call %d of %d after %v: %v", i+1, n, maps.Clone(shares), err)
		}
		shares[reply.GetInstanceId()]++
	}
	return shares
}
