package resolver

import (
	"net/url"
	"strings"
	"testing"
)

func TestTarget(t *testing.T) {
	for _, test := range []struct {
		in   string
		want target
	}{
		{"discovery:///greeter", target{service: "greeter"}},
		{"discovery:/greeter", target{service: "greeter"}},
		{"discovery:greeter", target{service: "greeter"}},
		{"DISCOVERY:///greeter", target{service: "greeter"}},
		{"discovery:///Team/greeter", target{service: "Team/greeter"}},
		{"discovery:///Team%2Fgreeter", target{service: "Team/greeter"}},
		{"discovery:Team%2Fgreeter?zone=a", target{service: "Team/greeter", zone: "a"}},
		{"discovery:///gr%C3%BC%C3%9Fer", target{service: "grüßer"}},
		{"discovery:///greeter?zone=a&version=2&authority=greeter.prod:443", target{service: "greeter", zone: "a", version: "2", authority: "greeter.prod:443"}},
		{"discovery:///greeter?zone=a+b&version=%26", target{service: "greeter", zone: "a b", version: "&"}},
		{"discovery:///greeter?", target{service: "greeter"}},
		{"discovery:///grpc.health.v1.Health", target{service: "grpc.health.v1.Health"}},
		{"discovery:///10.0.0.1:80", target{service: "10.0.0.1:80"}},
	} {
		u, err := url.Parse(test.in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseTarget(*u)
		if err != nil || got != test.want {
			t.Errorf("%s: got %+v, %v, want %+v", test.in, got, err, test.want)
		}
		if err := ValidateTarget(test.in); err != nil {
			t.Errorf("%s: ValidateTarget: %v", test.in, err)
		}
	}
}

func TestBadTargetSaysWhatWouldBeRight(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", "write discovery:///service"},
		{"greeter", `has the scheme ""`},
		{"dns:///greeter", `has the scheme "dns"`},
		{"discovery:///greeter%zz", `invalid URL escape "%zz"`},
		{"discovery:greeter%zz", `invalid URL escape "%zz"`},
		{"discovery://greeter", "nothing may stand between the second and the third slash"},
		{"discovery://10.0.0.1:6666/greeter", "give the registry's addresses to the registry client"},
		{"discovery://10.0.0.1:6666,10.0.0.2:6666/greeter", "discovery:///service"},
		{"discovery://user@/greeter", "nothing may stand"},
		{"discovery:///", "the service is empty"},
		{"discovery:", "the service is empty"},
		{"discovery:///?zone=a", "the service is empty"},
		{"discovery:////greeter", `"/greeter" starts or ends with a slash`},
		{"discovery:///greeter/", `"greeter/" starts or ends with a slash`},
		{"discovery:///%ff", "not UTF-8"},
		{"discovery:///greeter#zone=a", `fragment "zone=a"`},
		{"discovery:///greeter?region=eu", `unknown option "region": the options are authority, version, zone`},
		{"discovery:///greeter?Zone=a", `unknown option "Zone"`},
		{"discovery:///greeter?zone=", `option "zone" is empty`},
		{"discovery:///greeter?zone", `option "zone" is empty`},
		{"discovery:///greeter?zone=a&zone=b", `option "zone" is given 2 times`},
		{"discovery:///greeter?zone=a;version=2", "invalid semicolon"},
		{"discovery:///greeter?authority=a+b", `authority "a b" is not a host or host:port`},
		{"discovery:///greeter?authority=http://x", `authority "http://x" is not a host or host:port`},
	} {
		if err := ValidateTarget(test.in); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got the error %v, want one with %q", test.in, err, test.want)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{
		"discovery:///greeter?zone=a&version=2&authority=greeter.prod", "discovery:a%2Fb", "discovery:///a//b?zone=%00",
		"discovery://a:1,b:2/greeter", "discovery:////x", "discovery:///%ff?zone=%ff", "discovery:///a?zone=b;c#d",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		err := ValidateTarget(s)
		u, parseErr := url.Parse(s)
		if parseErr != nil || u.Scheme != Scheme {
			if err == nil {
				t.Fatalf("%q is no URL of the scheme, and valid", s)
			}
			return
		}
		got, err := parseTarget(*u)
		if err != nil {
			if got != (target{}) {
				t.Fatalf("%q: both %+v and %v", s, got, err)
			}
			return
		}
		if got.service == "" {
			t.Fatalf("%q: no service", s)
		}
		again, err := url.Parse(got.String())
		if err != nil {
			t.Fatalf("%q is written %q: %v", s, got, err)
		}
		if back, err := parseTarget(*again); err != nil || back != got {
			t.Fatalf("%q is written %q, which reads %+v, %v", s, got, back, err)
		}
	})
}
