// Package registry is rollcall's vocabulary: what an instance of a service is,
// and what a registry of instances promises to those who put them in and take
// them out.
//
// It depends on the standard library alone and knows nothing of gRPC, so a
// backend can be written, and tested with package registrytest, without it.
package registry

import (
	"context"
	"errors"
)

// The errors a Registry returns, wrapped with what was tried and why it failed.
// Test for them with errors.Is.
var (
	// ErrDuplicate: this process already holds a registration with the same
	// service and ID, or with the same service on the same address.
	ErrDuplicate = errors.New("already registered by this process")
	// ErrTaken: the registry shows another process under the same service and ID.
	ErrTaken = errors.New("taken by another process")
	// ErrInvalid: the instance or the service name cannot be registered or
	// looked up; trying again cannot help.
	ErrInvalid = errors.New("invalid")
	// ErrUnknownService: the registry was reached and knows no usable instance
	// of the service.
	ErrUnknownService = errors.New("service unknown to the registry")
	// ErrUnavailable: no registry node gave an answer that could be used.
	ErrUnavailable = errors.New("no registry node answers")
	// ErrClosed: the Registry, Watcher or Registration has been closed.
	ErrClosed = errors.New("closed")
)

// Registry is a registry of service instances. Implementations are safe for
// concurrent use and keep the contract that package registrytest checks.
type Registry interface {
	// Register puts inst into the registry and keeps it there, across failures
	// and restarts of the registry, until Deregister or Close. It returns when
	// the registry has taken the instance, or with an error when ctx ends first;
	// then nothing is left registered or running. ctx bounds this call only.
	//
	// Errors: ErrInvalid at once for an instance that fails Instance.Validate,
	// ErrDuplicate at once for one this Registry already holds, ErrClosed, and
	// otherwise ctx's error joined with the last failure.
	Register(ctx context.Context, inst Instance) (Registration, error)

	// Fetch returns the current set of the service, from a cache if that is
	// fresh. When the registry cannot be reached it returns the last good set
	// with Confirmed false, or ErrUnavailable if there never was one. A service
	// without a usable instance is ErrUnknownService, never an empty Snapshot; an
	// empty name is ErrInvalid.
	Fetch(ctx context.Context, service string) (Snapshot, error)

	// Watch follows the set of the service. It does not wait for the registry:
	// the first set, or the reason why there is none, comes from the first Next.
	// ctx is not kept. An empty name is ErrInvalid.
	Watch(ctx context.Context, service string) (Watcher, error)

	// Close deregisters what is still registered (bounded in time), ends all
	// watches and waits until everything the Registry started has ended: nothing
	// is sent and nobody is called after it returned. It may be called again.
	Close() error
}

// Watcher follows the set of one service. Next is for one goroutine; Refresh
// and Close may be called by any.
type Watcher interface {
	// Next blocks until there is something this Watcher has not returned yet and
	// returns the latest, never a backlog:
	//   - a Snapshot whose content, Confirmed or Reason differs from the last one,
	//     or that follows an error (so a consumer learns that it is over);
	//   - ErrUnknownService: nobody serves it, or nobody does any more;
	//   - ErrUnavailable: the registry cannot be asked; the last set stands.
	// An error is returned once until its reason changes. No error ends the watch
	// but ErrClosed; ctx's own error is returned as it is.
	Next(ctx context.Context) (Snapshot, error)
	// Refresh hints that the set may have changed: the registry is asked soon,
	// however often Refresh is called. It does not block.
	Refresh()
	// Close ends the watch, wakes Next with ErrClosed and waits for whatever
	// worked for this watcher alone. It may be called again.
	Close() error
}

// Registration is an instance that is being kept in the registry. Its methods
// may be called by any goroutine; Update and Deregister take turns.
type Registration interface {
	// Instance returns what is registered now.
	Instance() Instance
	// Update replaces the content of the instance. Service, ID and Life cannot
	// change (ErrInvalid), nor can it take an address that another registration
	// of this Registry has (ErrDuplicate). When writing fails the new content
	// stays the wanted one and the heartbeat goes on trying to write it. After a
	// Collision nothing is written until the other process is gone (ErrTaken).
	Update(ctx context.Context, inst Instance) error
	// Deregister stops the heartbeat, waits until it has ended, and then removes
	// the instance, so that a late beat cannot bring it back. The registration is
	// over whatever it returns: an error says that the registry could not be told
	// within ctx and will drop the instance when its lease expires. Called again
	// it returns the first result. The same identity may then be registered anew.
	Deregister(ctx context.Context) error
	// Events reports what happens to the registration. The sender never blocks:
	// when nobody reads, the oldest events are dropped. Closed at the end.
	Events() <-chan Event
}

// EventKind says what happened to a registration.
type EventKind uint8

// The events of a registration.
const (
	// RenewFailed: a heartbeat failed; the next try follows soon.
	RenewFailed EventKind = iota + 1
	// Renewed: the first heartbeat that worked after one or more that failed.
	Renewed
	// Lost: the registry no longer knows the instance (it restarted, or the
	// lease expired). The heartbeat registers it again.
	Lost
	// Registered: the instance was registered again, or an Update was written.
	Registered
	// Collision: the registry shows another process under this identity.
	Collision
	// Deregistered: the registration is over; Err says whether the registry knows.
	Deregistered
)

var eventNames = [...]string{RenewFailed: "renew failed", Renewed: "renewed", Lost: "lost", Registered: "registered", Collision: "collision", Deregistered: "deregistered"}

// String returns the name that logs show.
func (k EventKind) String() string { return name(eventNames[:], int(k)) }

// Event is one thing that happened to a registration.
type Event struct {
	Kind EventKind
	Node string // the registry node concerned, if any
	Err  error  // why, for RenewFailed, Lost, Collision and a failed Deregistered
}
