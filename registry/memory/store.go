package memory

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/watch"
)

// source is what snapshots from here name as their node.
const source = "memory"

// store is what all clients of one registry share.
type store struct {
	mu       sync.Mutex // guards all below; only topics and event feeds are called under it
	services map[string]*service
}

// service holds the instances of one service and whoever watches them.
type service struct {
	topic     watch.Topic
	instances map[string]entry // by ID
}

type entry struct {
	owner *registration
	inst  registry.Instance
}

func newStore() *store { return &store{services: map[string]*service{}} }

// put makes inst what is registered under its service and ID. Who owned that
// before is told.
func (s *store) put(owner *registration, inst registry.Instance) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	svc := s.service(inst.Service)
	old, known := svc.instances[inst.ID]
	inst.FirstRegistered = now
	if known {
		inst.FirstRegistered = old.inst.FirstRegistered
	}
	svc.instances[inst.ID] = entry{owner, inst}
	svc.publish(inst.Service, now)
	if known && old.owner != owner {
		old.owner.events.Send(registry.Event{Kind: registry.Collision, Node: source, Err: fmt.Errorf(
			"memory: %s of %q was registered by another client, with life %q", inst.ID, inst.Service, inst.Life)})
	}
}

// remove takes inst out, unless somebody else has taken its identity over.
func (s *store) remove(owner *registration, inst registry.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc := s.service(inst.Service)
	if svc.instances[inst.ID].owner == owner {
		delete(svc.instances, inst.ID)
		svc.publish(inst.Service, time.Now())
	}
}

// topic returns where the state of the service is told.
func (s *store) topic(name string) *watch.Topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &s.service(name).topic
}

// service returns what is known of the service; mu is held.
func (s *store) service(name string) *service {
	svc := s.services[name]
	if svc == nil {
		svc = &service{instances: map[string]entry{}}
		svc.publish(name, time.Now())
		s.services[name] = svc
	}
	return svc
}

// publish tells the watchers the set of now, the moment at which every instance
// in it is alive; store.mu is held.
func (svc *service) publish(name string, now time.Time) {
	if len(svc.instances) == 0 {
		svc.topic.Publish(registry.Snapshot{}, fmt.Errorf("memory: %q: %w", name, registry.ErrUnknownService))
		return
	}
	instances := make([]registry.Instance, 0, len(svc.instances))
	for _, id := range slices.Sorted(maps.Keys(svc.instances)) {
		inst := svc.instances[id].inst
		inst.LastRenewed = now
		instances = append(instances, inst)
	}
	svc.topic.Publish(registry.Snapshot{Service: name, Instances: instances, Source: source, Confirmed: true}, nil)
}
