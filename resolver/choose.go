package resolver

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/registry"
)

// choice is what a channel may use of a snapshot.
type choice struct {
	instances []registry.Instance // in the snapshot's order
	leftOut   string              // why the others are not among them; "" if there are none
}

// rule is one reason to leave instances out.
type rule struct {
	fits func(registry.Instance) bool
	say  func(left []registry.Instance) string
}

// choose applies the rules in their order; an instance is left out for the first
// that it does not fit.
func choose(rules []rule, all []registry.Instance) choice {
	left := make([][]registry.Instance, len(rules))
	kept := make([]registry.Instance, 0, len(all))
	for _, inst := range all {
		if i := slices.IndexFunc(rules, func(r rule) bool { return !r.fits(inst) }); i >= 0 {
			left[i] = append(left[i], inst)
		} else {
			kept = append(kept, inst)
		}
	}
	var why []string
	for i, r := range rules {
		if len(left[i]) > 0 {
			why = append(why, r.say(left[i]))
		}
	}
	current, superseded := withoutSuperseded(kept)
	if superseded > 0 {
		why = append(why, fmt.Sprintf("%d superseded by a later one on the same address", superseded))
	}
	return choice{instances: current, leftOut: strings.Join(why, "; ")}
}

// rules are those of a target on a channel with these credentials.
func rules(t target, opts gresolver.BuildOptions) []rule {
	rs := []rule{{
		fits: func(inst registry.Instance) bool { return len(inst.Addrs) > 0 },
		say:  func(left []registry.Instance) string { return fmt.Sprintf("%d without an address", len(left)) },
	}}
	if t.zone != "" {
		rs = append(rs, exactly("zone", t.zone, func(inst registry.Instance) string { return inst.Zone }))
	}
	if t.version != "" {
		rs = append(rs, exactly("version", t.version, func(inst registry.Instance) string { return inst.Version }))
	}
	switch protocol := securityProtocol(opts); protocol {
	case "insecure", "local":
		rs = append(rs, rule{
			fits: func(inst registry.Instance) bool { return !inst.TLS },
			say: func(left []registry.Instance) string {
				return fmt.Sprintf("%d speaking tls, and the channel's credentials are %s", len(left), protocol)
			},
		})
	case "tls":
		rs = append(rs, rule{
			fits: func(inst registry.Instance) bool { return inst.TLS },
			say: func(left []registry.Instance) string {
				return fmt.Sprintf("%d speaking plaintext, and the channel uses tls", len(left))
			},
		})
	}
	return rs
}

func exactly(name, want string, field func(registry.Instance) string) rule {
	return rule{
		fits: func(inst registry.Instance) bool { return field(inst) == want },
		say: func(left []registry.Instance) string {
			return fmt.Sprintf("%d not with %s %q (%ss seen: %s)", len(left), name, want, name, values(left, field))
		},
	}
}

// maxValues bounds what an error text quotes of a registry's content.
const maxValues = 5

// values lists the different values of a field.
func values(of []registry.Instance, field func(registry.Instance) string) string {
	distinct := map[string]bool{}
	for _, inst := range of {
		distinct[strconv.Quote(field(inst))] = true
	}
	list := slices.Sorted(maps.Keys(distinct))
	if more := len(list) - maxValues; more > 0 {
		list = append(list[:maxValues], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, ", ")
}

// securityProtocol is what the channel's credentials say they speak, as in
// credentials.ProtocolInfo. What a protocol other than those known to rules can
// connect to is not for us to judge.
func securityProtocol(opts gresolver.BuildOptions) string {
	creds := opts.DialCreds
	if creds == nil && opts.CredsBundle != nil {
		creds = opts.CredsBundle.TransportCredentials()
	}
	if creds == nil {
		return ""
	}
	return creds.Info().SecurityProtocol
}

// withoutSuperseded leaves out instances that share an address with one that
// was registered later: a server that crashed and started again under another
// ID, and whose old lease has not expired. Both would be the same server, with
// twice its share of the calls.
func withoutSuperseded(instances []registry.Instance) (current []registry.Instance, superseded int) {
	owner := make(map[string]int, len(instances))
	for i, inst := range instances {
		for _, addr := range inst.Addrs {
			if j, taken := owner[addr]; !taken || inst.FirstRegistered.After(instances[j].FirstRegistered) {
				owner[addr] = i
			}
		}
	}
	current = make([]registry.Instance, 0, len(instances))
	for i, inst := range instances {
		if slices.ContainsFunc(inst.Addrs, func(addr string) bool { return owner[addr] != i }) {
			superseded++
		} else {
			current = append(current, inst)
		}
	}
	return current, superseded
}
