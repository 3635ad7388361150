// Package claim refuses a second registration of what is registered already,
// before the registry hears of it: there the later one would silently replace
// the earlier.
package claim

import (
	"fmt"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// Set is what one Registry has registered. The zero Set is empty.
type Set struct {
	mu    sync.Mutex // guards all below; nothing is called under it
	ids   map[name]*Claim
	addrs map[name]*Claim
}

// name is an ID or an address of a service.
type name struct{ service, text string }

// Claim is the right to one service and ID and to the addresses that go with it.
type Claim struct {
	set         *Set
	service, id string
	addrs       []string // guarded by set.mu
}

// Add claims the service and ID of inst and the service on each of its
// addresses. It is ErrDuplicate when another claim holds one of them.
func (s *Set) Add(inst registry.Instance) (*Claim, error) {
	c := &Claim{set: s, service: inst.Service, id: inst.ID}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[name{c.service, c.id}] != nil {
		return nil, fmt.Errorf("%w: ID %q of service %q", registry.ErrDuplicate, c.id, c.service)
	}
	if err := s.free(c, inst.Addrs); err != nil {
		return nil, err
	}
	if s.ids == nil {
		s.ids, s.addrs = map[name]*Claim{}, map[name]*Claim{}
	}
	s.ids[name{c.service, c.id}] = c
	s.hold(c, inst.Addrs)
	return c, nil
}

// Move gives up the claim's addresses for these. It is ErrDuplicate when
// another claim holds one of them; the claim then keeps what it has. A released
// claim takes nothing.
func (c *Claim) Move(addrs []string) error {
	s := c.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[name{c.service, c.id}] != c {
		return nil
	}
	if err := s.free(c, addrs); err != nil {
		return err
	}
	s.drop(c)
	s.hold(c, addrs)
	return nil
}

// Release gives everything up. It may be called again.
func (c *Claim) Release() {
	s := c.set
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids[name{c.service, c.id}] != c {
		return
	}
	delete(s.ids, name{c.service, c.id})
	s.drop(c)
}

// free says whether nobody but c holds one of addrs.
func (s *Set) free(c *Claim, addrs []string) error {
	for _, addr := range addrs {
		if other := s.addrs[name{c.service, addr}]; other != nil && other != c {
			return fmt.Errorf("%w: service %q on %s, with the ID %q", registry.ErrDuplicate, c.service, addr, other.id)
		}
	}
	return nil
}

func (s *Set) hold(c *Claim, addrs []string) {
	for _, addr := range addrs {
		s.addrs[name{c.service, addr}] = c
	}
	c.addrs = append([]string(nil), addrs...)
}

func (s *Set) drop(c *Claim) {
	for _, addr := range c.addrs {
		delete(s.addrs, name{c.service, addr})
	}
	c.addrs = nil
}
