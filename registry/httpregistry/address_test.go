package httpregistry

import (
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/quick"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// stored is an instance as the registry hands it out again.
func stored(req wire.RegisterRequest) wire.Instance {
	return wire.Instance{Env: req.Env, AppID: req.AppID, Hostname: req.Hostname, Addrs: req.Addrs, Version: req.Version, Status: req.Status}
}

func TestEncode(t *testing.T) {
	got := encode("prod", registry.Instance{
		Service: "greeter", ID: "a", Life: "f00d", Addrs: []string{"10.0.0.7:9000", "[::1]:9000"},
		Weight: 10, Zone: "a b", Version: "1.2", Status: registry.Draining, Metadata: map[string]string{"team": "x&y"},
	})
	want := []string{
		"grpc://10.0.0.7:9000?life=f00d&team=x%26y&weight=10&zone=a+b",
		"grpc://[::1]:9000?life=f00d&team=x%26y&weight=10&zone=a+b",
	}
	if strings.Join(got.Addrs, " ") != strings.Join(want, " ") {
		t.Errorf("addrs = %q, want %q", got.Addrs, want)
	}
	if got.Env != "prod" || got.AppID != "greeter" || got.Hostname != "a" || got.Version != "1.2" || got.Status != 2 {
		t.Errorf("encode = %+v", got)
	}
	plain := encode("prod", registry.Instance{Service: "s", ID: "a", Addrs: []string{"h:1"}, TLS: true})
	if plain.Addrs[0] != "grpcs://h:1?weight=1" || plain.Status != 1 {
		t.Errorf("encode without options = %+v", plain)
	}
}

func TestDecodeTakesOnlyWhatIsOurs(t *testing.T) {
	tests := []struct {
		name  string
		addrs []string
		want  registry.Instance // Addrs, TLS, Weight, Zone, Metadata
		note  string            // part of it
		err   string            // part of it
	}{
		{name: "bare host:port", addrs: []string{"h:1"}, want: registry.Instance{Addrs: []string{"h:1"}}},
		{name: "bare with a query", addrs: []string{"h:1?weight=3"}, want: registry.Instance{Addrs: []string{"h:1"}, Weight: 3}},
		{name: "other protocols are skipped", addrs: []string{"http://h:80?zone=no", "tcp://h:2", "grpc://h:1?zone=a"}, want: registry.Instance{Addrs: []string{"h:1"}, Zone: "a"}},
		{name: "upper case scheme", addrs: []string{"GRPC://h:1"}, want: registry.Instance{Addrs: []string{"h:1"}}},
		{name: "TLS", addrs: []string{"grpcs://h:1"}, want: registry.Instance{Addrs: []string{"h:1"}, TLS: true}},
		{name: "the first one's query wins", addrs: []string{"grpc://h:1?weight=2", "grpc://h:2?weight=9&zone=b"}, want: registry.Instance{Addrs: []string{"h:1", "h:2"}, Weight: 2}},
		{name: "the first one decides on TLS", addrs: []string{"grpc://h:1", "grpcs://h:2", "h:3"}, want: registry.Instance{Addrs: []string{"h:1", "h:3"}}},
		{name: "duplicates", addrs: []string{"grpc://h:1", "h:1", "grpc://h:1"}, want: registry.Instance{Addrs: []string{"h:1"}}},
		{name: "IPv6", addrs: []string{"grpc://[fe80::1%25eth0]:1", "[::1]:2"}, want: registry.Instance{Addrs: []string{"[fe80::1%eth0]:1", "[::1]:2"}}},
		{name: "metadata", addrs: []string{"grpc://h:1?color=red&=x&color=blue&empty="}, want: registry.Instance{Addrs: []string{"h:1"}, Metadata: map[string]string{"color": "red", "empty": ""}}},
		{name: "weight 0 is the default", addrs: []string{"grpc://h:1?weight=0"}, want: registry.Instance{Addrs: []string{"h:1"}, Weight: 1}},
		{name: "weight is no number", addrs: []string{"grpc://h:1?weight=heavy&zone=a"}, want: registry.Instance{Addrs: []string{"h:1"}, Zone: "a"}, note: `weight "heavy"`},
		{name: "weight is negative", addrs: []string{"grpc://h:1?weight=-1"}, want: registry.Instance{Addrs: []string{"h:1"}}, note: `weight "-1"`},
		{name: "weight is too large", addrs: []string{"grpc://h:1?weight=4294967296"}, want: registry.Instance{Addrs: []string{"h:1"}}, note: `weight "4294967296"`},
		{name: "weight is empty", addrs: []string{"grpc://h:1?weight="}, want: registry.Instance{Addrs: []string{"h:1"}}, note: `weight ""`},
		{name: "largest weight", addrs: []string{"grpc://h:1?weight=4294967295"}, want: registry.Instance{Addrs: []string{"h:1"}, Weight: math.MaxUint32}},
		{name: "broken query", addrs: []string{"grpc://h:1?zone=a&x=%zz"}, want: registry.Instance{Addrs: []string{"h:1"}, Zone: "a"}, note: "%zz"},
		{name: "null", addrs: nil, err: "none of its 0 addresses"},
		{name: "empty string", addrs: []string{""}, err: "none of its 1 addresses"},
		{name: "not URLs", addrs: []string{"not a url", "::::", " lead", "h", "h:", ":1", "h:0", "h:65536", "grpc://", "grpc://h", "grpc://h:x", "\x00:1"}, err: "none of its 12 addresses"},
		{name: "only other protocols", addrs: []string{"http://h:1"}, err: "none of its 1 addresses"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, note, err := decode(wire.Instance{AppID: "s", Hostname: "a", Addrs: tt.addrs, Status: 1})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("decode = %+v, error %v, want %q", got, err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			want.Service, want.ID = "s", "a"
			if !got.Equal(want) {
				t.Errorf("decode = %+v, want %+v", got, want)
			}
			if !strings.Contains(note, tt.note) || (tt.note == "") != (note == "") {
				t.Errorf("note = %q, want %q", note, tt.note)
			}
		})
	}
}

func TestDecodeRefusesOddEntries(t *testing.T) {
	for status, ok := range map[uint32]bool{0: false, 1: true, 2: true, 3: false, 257: false, math.MaxUint32: false} {
		_, _, err := decode(wire.Instance{Hostname: "a", Addrs: []string{"h:1"}, Status: status})
		if (err == nil) != ok {
			t.Errorf("status %d: %v", status, err)
		}
	}
	if _, _, err := decode(wire.Instance{Addrs: []string{"h:1"}, Status: 1}); err == nil {
		t.Error("an entry without hostname was taken")
	}
}

func TestDecodeBoundsTheAddresses(t *testing.T) {
	req := wire.Instance{Hostname: "a", Status: 1}
	for i := range 5000 {
		req.Addrs = append(req.Addrs, "h:"+string(rune('1'+i%9))+"000")
	}
	for i := range 100 {
		req.Addrs = append(req.Addrs, "h"+strings.Repeat("x", i)+":1")
	}
	got, _, err := decode(req)
	if err != nil || len(got.Addrs) != maxAddrs {
		t.Errorf("%d addresses, error %v; want %d", len(got.Addrs), err, maxAddrs)
	}
}

// Every instance that Register takes comes back as it went in.
func TestRoundTrip(t *testing.T) {
	hosts := []string{"10.0.0.1:1", "h:65535", "[::1]:9000", "[fe80::1%eth0]:9", "a.example.com:80", "xn--bcher-kva.example:1"}
	property := func(service, id, life, zone, version string, weight uint32, tls, draining bool, metadata map[string]string) bool {
		inst := registry.Instance{
			Service: service + "s", ID: id + "i", Life: life, Zone: zone, Version: version, Weight: weight, TLS: tls,
			Metadata: maps.Clone(metadata), Status: registry.Up,
		}
		if draining {
			inst.Status = registry.Draining
		}
		for _, key := range append(registry.ReservedKeys(), "") {
			delete(inst.Metadata, key)
		}
		for _, i := range rand.Perm(len(hosts))[:1+rand.IntN(3)] {
			inst.Addrs = append(inst.Addrs, hosts[i])
		}
		if err := inst.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := encodable("dev", inst); err != nil {
			return strings.Contains(err.Error(), "UTF-8")
		}
		got, note, err := decode(stored(encode("dev", inst)))
		return err == nil && note == "" && got.Equal(inst)
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

func TestEncodableRefusesWhatWouldChange(t *testing.T) {
	ok := registry.Instance{Service: "s", ID: "a", Addrs: []string{"h:1"}}
	if err := encodable("dev", ok); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(*registry.Instance){
		"not UTF-8":       func(i *registry.Instance) { i.ID = "\xff" },
		"the service":     func(i *registry.Instance) { i.Service = "\xff" },
		"the version":     func(i *registry.Instance) { i.Version = "\xff" },
		"Kavin.discovery": func(i *registry.Instance) { i.Service = "Kavin.discovery" },
		"without change":  func(i *registry.Instance) { i.Addrs = []string{"a/b:1"} },
		"each once":       func(i *registry.Instance) { i.Addrs = []string{"h:1", "h:1"} },
		"at most":         func(i *registry.Instance) { i.Addrs = strings.Fields(strings.Repeat("h:1 ", maxAddrs+1)) },
	}
	for want, spoil := range tests {
		inst := ok
		spoil(&inst)
		if err := encodable("dev", inst); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("encodable(%+v) = %v, want %q", inst, err, want)
		}
	}
}

// Whatever a stranger has registered, decoding does not panic, and what it yields
// can be called and registered again.
func FuzzDecode(f *testing.F) {
	for _, addr := range []string{"grpc://h:1?weight=10&zone=a", "grpcs://[::1]:9", "h:1", "not a url", "grpc://h:1?%zz;a=b", "grpc://h%00:1", "grpc://u:p@h:1/x?=#f"} {
		f.Add("s", "a", addr, "", uint32(1))
	}
	f.Fuzz(func(t *testing.T, service, id, first, second string, status uint32) {
		inst, _, err := decode(wire.Instance{AppID: service, Hostname: id, Addrs: []string{first, second}, Status: status})
		if err != nil {
			return
		}
		inst.Service += "s"
		if err := inst.Validate(); err != nil {
			t.Errorf("decoded %+v: %v", inst, err)
		}
		again, _, err := decode(stored(encode("dev", inst)))
		if err != nil || !again.Equal(inst) {
			t.Errorf("decoded %+v, and again %+v, %v", inst, again, err)
		}
	})
}
