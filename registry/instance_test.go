package registry_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

func valid() registry.Instance {
	return registry.Instance{
		Service: "greeter", ID: "greeter-1", Life: "f00d",
		Addrs: []string{"10.0.0.7:9000", "[2001:db8::7]:9000"}, TLS: true, Weight: 3,
		Zone: "a", Version: "v1", Status: registry.Draining,
		Metadata: map[string]string{"team": "blue"},
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*registry.Instance)
		want  string // part of the error; "" for none
	}{
		{"all fields", func(*registry.Instance) {}, ""},
		{"only what is needed", func(i *registry.Instance) {
			*i = registry.Instance{Service: "s", ID: "i", Addrs: []string{"host:1"}}
		}, ""},
		{"no service", func(i *registry.Instance) { i.Service = "" }, "service is empty"},
		{"no ID", func(i *registry.Instance) { i.ID = "" }, `ID of service "greeter" is empty`},
		{"no address", func(i *registry.Instance) { i.Addrs = []string{} }, "at least one host:port"},
		{"a bad second address", func(i *registry.Instance) { i.Addrs[1] = "nowhere" }, `address "nowhere"`},
		{"unknown status", func(i *registry.Instance) { i.Status = 3 }, "status 3: it must be 1 (up) or 2 (draining)"},
		{"empty key", func(i *registry.Instance) { i.Metadata[""] = "x" }, `metadata key ""`},
		{"reserved key", func(i *registry.Instance) { i.Metadata["zone"] = "x" }, "one of [life weight zone]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inst := valid()
			test.spoil(&inst)
			switch err := inst.Validate(); {
			case test.want == "" && err != nil:
				t.Errorf("Validate: %v", err)
			case test.want != "" && (!errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("Validate: %v, want ErrInvalid with %q", err, test.want)
			}
		})
	}
}

func TestValidateAddr(t *testing.T) {
	for addr, ok := range map[string]bool{
		"10.0.0.7:9000": true, "host.example:1": true, "[::1]:65535": true, "[fe80::1%eth0]:80": true,
		"": false, "host": false, "host:": false, ":9000": false, "host:0": false, "host:65536": false, "unix:80": false, "unix.example:80": true,
		"host:-1": false, "host:http": false, "::1:9000": false, "[::1]": false, "host:1:2": false, "host:+80": false,
		" host:1": false, "host :1": false, "a\x00b:1": false, "http://host:1": false, "user@host:1": false, "host/path:1": false, "[host]:1": false, "[10.0.0.1]:1": false,
	} {
		if err := registry.ValidateAddr(addr); (err == nil) != ok {
			t.Errorf("ValidateAddr(%q): %v, want ok %v", addr, err, ok)
		} else if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("%q is not host:port", addr)) {
			t.Errorf("ValidateAddr(%q): %v, want the address and what it should be", addr, err)
		}
	}
}

// Whatever ValidateAddr lets pass can stand in a URL, where registries keep it.
func FuzzValidateAddr(f *testing.F) {
	for _, seed := range []string{"10.0.0.7:9000", "[::1]:80", ":80", "host", "a b:1", "[]:1", "host:00001"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, addr string) {
		if registry.ValidateAddr(addr) != nil {
			return
		}
		text := (&url.URL{Scheme: "grpc", Host: addr, RawQuery: "a=b"}).String()
		if back, err := url.Parse(text); err != nil || back.Host != addr {
			t.Errorf("%q passes and becomes %v, %v", addr, back, err)
		}
	})
}

func TestValidateUpdate(t *testing.T) {
	next := valid()
	next.Weight, next.Addrs, next.Metadata = 9, []string{"host:1"}, nil
	if err := valid().ValidateUpdate(next); err != nil {
		t.Errorf("new content: %v", err)
	}
	for what, spoil := range map[string]func(*registry.Instance){
		"service": func(i *registry.Instance) { i.Service = "other" },
		"ID":      func(i *registry.Instance) { i.ID = "other" },
		"life":    func(i *registry.Instance) { i.Life = "other" },
		"content": func(i *registry.Instance) { i.Addrs = nil },
	} {
		next := valid()
		spoil(&next)
		if err := valid().ValidateUpdate(next); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("other %s: %v, want ErrInvalid", what, err)
		}
	}
}

// changes are one change of content each.
var changes = map[string]func(*registry.Instance){
	"service":         func(i *registry.Instance) { i.Service = "other" },
	"ID":              func(i *registry.Instance) { i.ID = "other" },
	"life":            func(i *registry.Instance) { i.Life = "other" },
	"address":         func(i *registry.Instance) { i.Addrs[0] = "other:1" },
	"address order":   func(i *registry.Instance) { i.Addrs[0], i.Addrs[1] = i.Addrs[1], i.Addrs[0] },
	"fewer addresses": func(i *registry.Instance) { i.Addrs = i.Addrs[:1] },
	"TLS":             func(i *registry.Instance) { i.TLS = false },
	"weight":          func(i *registry.Instance) { i.Weight = 4 },
	"zone":            func(i *registry.Instance) { i.Zone = "b" },
	"version":         func(i *registry.Instance) { i.Version = "v2" },
	"status":          func(i *registry.Instance) { i.Status = registry.Up },
	"metadata value":  func(i *registry.Instance) { i.Metadata["team"] = "red" },
	"metadata key":    func(i *registry.Instance) { i.Metadata["more"] = "" },
	"no metadata":     func(i *registry.Instance) { i.Metadata = nil },
}

func TestEqual(t *testing.T) {
	for what, change := range changes {
		other := valid()
		change(&other)
		if valid().Equal(other) || other.Equal(valid()) {
			t.Errorf("equal in spite of another %s", what)
		}
	}
	seen := valid()
	seen.FirstRegistered, seen.LastRenewed = time.Unix(1, 0), time.Unix(2, 0)
	if !seen.Equal(valid()) {
		t.Error("the registry's times count as content")
	}
	bare := registry.Instance{Service: "s", ID: "i", Addrs: []string{"host:1"}}
	filled := bare
	filled.Weight, filled.Status, filled.Metadata = 1, registry.Up, map[string]string{}
	if !bare.Equal(filled) {
		t.Error("a default that is written out counts as a change")
	}
}

func TestClone(t *testing.T) {
	for what, change := range changes {
		original := valid()
		clone := original.Clone()
		if !clone.Equal(original) {
			t.Fatalf("the clone is %+v, want %+v", clone, original)
		}
		change(&clone)
		if !original.Equal(valid()) {
			t.Errorf("a change of the clone's %s reached the original", what)
		}
	}
	clone := registry.Instance{}.Clone()
	if clone.Weight != 1 || clone.Status != registry.Up {
		t.Errorf("the clone has weight %d and status %v, want the defaults 1 and up", clone.Weight, clone.Status)
	}
}

func TestSnapshotEqual(t *testing.T) {
	snapshot := func() registry.Snapshot {
		return registry.Snapshot{
			Service: "greeter", Instances: []registry.Instance{valid()}, Source: "node-1",
			Reason: "why", Skipped: []registry.Skipped{{ID: "x", Reason: "http only"}},
		}
	}
	other := snapshot()
	other.Source = "node-2"
	if !snapshot().Equal(other) {
		t.Error("another source counts as a change")
	}
	for what, change := range map[string]func(*registry.Snapshot){
		"service":   func(s *registry.Snapshot) { s.Service = "other" },
		"instance":  func(s *registry.Snapshot) { s.Instances[0].Weight = 9 },
		"instances": func(s *registry.Snapshot) { s.Instances = nil },
		"certainty": func(s *registry.Snapshot) { s.Confirmed = true },
		"reason":    func(s *registry.Snapshot) { s.Reason = "other" },
		"skipped":   func(s *registry.Snapshot) { s.Skipped[0].Reason = "other" },
	} {
		other := snapshot()
		change(&other)
		if snapshot().Equal(other) {
			t.Errorf("equal in spite of another %s", what)
		}
	}
}

func TestNamesInLogs(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"up": registry.Up, "draining": registry.Draining, "0": registry.Status(0), "9": registry.Status(9),
		"renew failed": registry.RenewFailed, "renewed": registry.Renewed, "lost": registry.Lost,
		"registered": registry.Registered, "collision": registry.Collision, "deregistered": registry.Deregistered,
		"200": registry.EventKind(200),
	} {
		if got.String() != want {
			t.Errorf("%#v is %q, want %q", got, got, want)
		}
	}
}

func ExampleInstance_Validate() {
	inst := registry.Instance{Service: "greeter", ID: "greeter-1", Addrs: []string{"10.0.0.7"}}
	fmt.Println(inst.Validate())
	// Output:
	// registry: invalid: instance "greeter-1" of "greeter": address "10.0.0.7" is not host:port: address 10.0.0.7: missing port in address
}
