package registry

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Status says whether an instance wants traffic.
type Status uint8

// The states an instance can be registered in. The values are those of the wire.
const (
	Up       Status = 1 // takes calls
	Draining Status = 2 // known and finishing, takes no new calls
)

var statusNames = [...]string{Up: "up", Draining: "draining"}

// String returns the name that logs show.
func (s Status) String() string { return name(statusNames[:], int(s)) }

// name is the i-th of names, or the number itself where there is none.
func name(names []string, i int) string {
	if i < len(names) && names[i] != "" {
		return names[i]
	}
	return strconv.Itoa(i)
}

// Instance is one server process that serves one service.
type Instance struct {
	// Service is the name that clients resolve (appid on the wire).
	Service string
	// ID is unique within the environment and the service (hostname on the wire).
	ID string
	// Life is random per process start: the same ID with another Life is another
	// process. Empty for instances that something else than rollcall registered.
	Life string
	// Addrs are the host:port of the gRPC listener. Several are alternatives for
	// this one server (dual stack), not several servers.
	Addrs []string
	// TLS says that the server speaks TLS on them.
	TLS bool
	// Weight is the share of traffic relative to the other instances; 0 means 1.
	Weight uint32
	// Zone is where the instance runs, Version what it runs; both are free text.
	Zone, Version string
	// Status says whether the instance wants traffic; 0 means Up.
	Status Status
	// Metadata is whatever else is worth knowing. Keys must not be empty and not
	// be one of ReservedKeys.
	Metadata map[string]string

	// FirstRegistered and LastRenewed are what the registry node that answered
	// has seen, by its clock: comparable only within one Snapshot. Registering
	// ignores them, and so does Equal.
	FirstRegistered, LastRenewed time.Time
}

// ReservedKeys are the names that Metadata cannot use, because fields of
// Instance travel under them.
func ReservedKeys() []string { return []string{"life", "weight", "zone"} }

// Validate says whether the instance can be registered. Its errors are
// ErrInvalid and name the field, what is wrong with it and what would be right.
func (i Instance) Validate() error {
	switch {
	case i.Service == "":
		return invalid("service is empty: give the name that clients resolve")
	case i.ID == "":
		return invalid("ID of service %q is empty: give a name that is unique within the service", i.Service)
	case len(i.Addrs) == 0:
		return invalid("instance %q of %q has no address: give at least one host:port", i.ID, i.Service)
	case i.Status > Draining:
		return invalid("instance %q of %q has status %d: it must be %d (up) or %d (draining)", i.ID, i.Service, i.Status, Up, Draining)
	}
	for _, addr := range i.Addrs {
		if err := ValidateAddr(addr); err != nil {
			return invalid("instance %q of %q: %v", i.ID, i.Service, err)
		}
	}
	for key := range i.Metadata {
		if key == "" || slices.Contains(ReservedKeys(), key) {
			return invalid("instance %q of %q has the metadata key %q: keys must not be empty or one of %v", i.ID, i.Service, key, ReservedKeys())
		}
	}
	return nil
}

// ValidateUpdate says whether next can replace i in a registry: it must be valid
// and be the same process. Its errors are ErrInvalid.
func (i Instance) ValidateUpdate(next Instance) error {
	if err := next.Validate(); err != nil {
		return err
	}
	if next.Service != i.Service || next.ID != i.ID || next.Life != i.Life {
		return invalid("instance %q of %q, life %q, cannot become %q of %q, life %q: register another process by itself",
			i.ID, i.Service, i.Life, next.ID, next.Service, next.Life)
	}
	return nil
}

// ValidateAddr says whether addr can be dialled: a host and a port from 1 to
// 65535, an IPv6 host in brackets.
func ValidateAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q is not host:port: %v", addr, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return fmt.Errorf("address %q is not host:port with a host and a port from 1 to 65535", addr)
	}
	if host == "unix" {
		return fmt.Errorf("address %q is not host:port: gRPC takes what follows \"unix:\" for the path of a Unix socket", addr)
	}
	if !validHost(host, strings.HasPrefix(addr, "[")) {
		return fmt.Errorf("address %q is not host:port: %q is neither a host name nor an IP address", addr, host)
	}
	return nil
}

// validHost says whether host is an IPv6 address if it was in brackets, and
// otherwise not something else than a host: a URL, a path, two words.
func validHost(host string, brackets bool) bool {
	if brackets {
		ip, err := netip.ParseAddr(host)
		return err == nil && ip.Is6()
	}
	return !strings.ContainsFunc(host, notInHost)
}

func notInHost(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`/?#@\"<>%[]^|`+"`{}", r)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("registry: %w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// EffectiveWeight is the weight to balance with: Weight, or 1 if that is 0.
func (i Instance) EffectiveWeight() uint32 { return max(i.Weight, 1) }

// Equal says whether both describe the same content. The times that the
// registry node reported are not content.
func (i Instance) Equal(o Instance) bool {
	return i.Service == o.Service && i.ID == o.ID && i.Life == o.Life &&
		i.TLS == o.TLS && i.EffectiveWeight() == o.EffectiveWeight() &&
		i.Zone == o.Zone && i.Version == o.Version && i.status() == o.status() &&
		slices.Equal(i.Addrs, o.Addrs) && maps.Equal(i.Metadata, o.Metadata)
}

func (i Instance) status() Status { return max(i.Status, Up) }

// Clone returns a copy that shares nothing with i, with the defaults of Weight
// and Status filled in.
func (i Instance) Clone() Instance {
	i.Addrs = slices.Clone(i.Addrs)
	i.Metadata = maps.Clone(i.Metadata)
	i.Weight, i.Status = i.EffectiveWeight(), i.status()
	return i
}

// Snapshot is the whole set of a service's instances at one moment. It is
// shared: do not change what it holds.
type Snapshot struct {
	Service string
	// Instances is the whole set, draining ones included, ordered by ID. It is
	// never empty: a service without instances is ErrUnknownService.
	Instances []Instance
	// Source is which node (or file, or override) said so.
	Source string
	// Confirmed is false for a last good set that is kept although the registry
	// now says something doubtful; Reason then says what.
	Confirmed bool
	Reason    string
	// Skipped are entries of the registry that are not instances rollcall can
	// call, and why.
	Skipped []Skipped
}

// Skipped is an entry that was left out of a Snapshot.
type Skipped struct{ ID, Reason string }

// Equal says whether both hold the same instances under the same circumstances.
// Which node said so does not matter.
func (s Snapshot) Equal(o Snapshot) bool {
	return s.Service == o.Service && s.Confirmed == o.Confirmed && s.Reason == o.Reason &&
		slices.EqualFunc(s.Instances, o.Instances, Instance.Equal) && slices.Equal(s.Skipped, o.Skipped)
}
