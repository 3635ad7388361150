package resolver

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// target is what a target string asks for. Empty means: not asked for.
type target struct {
	service, zone, version, authority string
}

// ValidateTarget says whether target can be resolved: whether it is a URL of
// Scheme with a service and options that are known, each given once and not
// empty. grpc.NewClient does not say so; what it cannot parse it takes for a
// host name.
func ValidateTarget(target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return fmt.Errorf("resolver: %w: a target is written %s:///service", err, Scheme)
	}
	if u.Scheme != Scheme {
		return fmt.Errorf("resolver: target %q has the scheme %q: write %s:///service", target, u.Scheme, Scheme)
	}
	_, err = parseTarget(*u)
	return err
}

func parseTarget(u url.URL) (target, error) {
	t, err := parseURL(u)
	if err != nil {
		return target{}, fmt.Errorf("resolver: target %q: %w", u.Redacted(), err)
	}
	return t, nil
}

func parseURL(u url.URL) (target, error) {
	if u.Host != "" || u.User != nil {
		return target{}, fmt.Errorf("nothing may stand between the second and the third slash: write %s:///service, and give the registry's addresses to the registry client", Scheme)
	}
	if u.Fragment != "" {
		return target{}, fmt.Errorf("it has the fragment %q: options go into the query, as in ?zone=a", u.Fragment)
	}
	service, err := parseService(u)
	if err != nil {
		return target{}, err
	}
	t := target{service: service}
	return t, t.parseQuery(u.RawQuery)
}

// parseService also takes discovery:greeter and discovery:/greeter, which gRPC's
// naming rules allow.
func parseService(u url.URL) (string, error) {
	service := strings.TrimPrefix(u.Path, "/")
	if u.Path == "" {
		var err error
		if service, err = url.PathUnescape(u.Opaque); err != nil {
			return "", err
		}
	}
	switch {
	case service == "":
		return "", fmt.Errorf("the service is empty: write %s:///service", Scheme)
	case strings.HasPrefix(service, "/") || strings.HasSuffix(service, "/"):
		return "", fmt.Errorf("the service %q starts or ends with a slash", service)
	case !utf8.ValidString(service):
		return "", fmt.Errorf("the service %q is not UTF-8", service)
	}
	return service, nil
}

func (t *target) parseQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("query %q: %w", raw, err)
	}
	known := map[string]*string{"authority": &t.authority, "version": &t.version, "zone": &t.zone}
	for _, key := range slices.Sorted(maps.Keys(query)) {
		value, ok := known[key]
		switch values := query[key]; {
		case !ok:
			return fmt.Errorf("unknown option %q: the options are %s", key, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case len(values) > 1:
			return fmt.Errorf("option %q is given %d times", key, len(values))
		case values[0] == "":
			return fmt.Errorf("option %q is empty: leave it out or give it a value", key)
		default:
			*value = values[0]
		}
	}
	if t.authority != encodeAuthority(t.authority) {
		return fmt.Errorf("authority %q is not a host or host:port", t.authority)
	}
	return nil
}

// String returns the target as users write it.
func (t target) String() string {
	query := url.Values{}
	for key, value := range map[string]string{"authority": t.authority, "version": t.version, "zone": t.zone} {
		if value != "" {
			query.Set(key, value)
		}
	}
	u := url.URL{Scheme: Scheme, Path: "/" + t.service, RawQuery: query.Encode()}
	return u.String()
}

// encodeAuthority makes s a valid :authority by RFC 3986, as gRPC does for the
// targets of resolvers that do not decide themselves.
func encodeAuthority(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~!$&'()*+,;=:[]@", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
