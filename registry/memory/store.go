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
	taken []entry // from previous owners, the latest last: what they want
}

func newStore() *store { return &store{services: map[string]*service{}} }

// register makes inst what is registered under its service and ID. Who owned that
// before is told.
func (s *store) register(owner *registration, inst registry.Instance) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	svc := s.service(inst.Service)
	old, known := svc.instances[inst.ID]
	inst.FirstRegistered = now
	next := entry{owner: owner, inst: inst}
	if known {
		next.inst.FirstRegistered = old.inst.FirstRegistered
		next.taken = append(old.taken, entry{owner: old.owner, inst: old.inst})
	}
	svc.instances[inst.ID] = next
	svc.publish(inst.Service, now)
	if known {
		old.owner.events.Send(registry.Event{Kind: registry.Collision, Node: source, Err: fmt.Errorf(
			"memory: %s of %q was registered by another client, with life %q", inst.ID, inst.Service, inst.Life)})
	}
}

// update makes inst what owner has registered, or wants to when whoever has taken
// its identity over is gone.
func (s *store) update(owner *registration, inst registry.Instance) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc := s.service(inst.Service)
	now := svc.instances[inst.ID]
	if now.owner == owner {
		inst.FirstRegistered = now.inst.FirstRegistered
		now.inst = inst
		svc.instances[inst.ID] = now
		svc.publish(inst.Service, time.Now())
		return nil
	}
	mine := &now.taken[slices.IndexFunc(now.taken, func(e entry) bool { return e.owner == owner })]
	inst.FirstRegistered = mine.inst.FirstRegistered
	mine.inst = inst
	return fmt.Errorf("%w, with life %q", registry.ErrTaken, now.inst.Life)
}

// remove takes out what owner has registered. Whom that was taken from has it again.
func (s *store) remove(owner *registration, inst registry.Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	svc := s.service(inst.Service)
	now := svc.instances[inst.ID]
	last := len(now.taken) - 1
	switch {
	case now.owner != owner:
		now.taken = slices.DeleteFunc(now.taken, func(e entry) bool { return e.owner == owner })
		svc.instances[inst.ID] = now
		return
	case last < 0:
		delete(svc.instances, inst.ID)
	default:
		before := now.taken[last]
		now.taken[last] = entry{}
		before.taken = now.taken[:last]
		svc.instances[inst.ID] = before
		before.owner.events.Send(registry.Event{Kind: registry.Registered})
	}
	svc.publish(inst.Service, time.Now())
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
