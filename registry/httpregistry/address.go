package httpregistry

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// The schemes of the addresses that are ours; every other one belongs to another
// protocol.
const (
	schemePlain = "grpc"
	schemeTLS   = "grpcs"
)

// maxAddrs is how many addresses of one instance are used: they are alternatives
// for one server, and whoever registers many more must not cost us time.
const maxAddrs = 16

// The query keys of the fields that have none of their own on the wire. Every
// other key is metadata.
const (
	keyWeight = "weight"
	keyZone   = "zone"
	keyLife   = "life"
)

// encode is inst as the registry stores it. Everything that the wire has no
// field for travels in the query of every address:
//
//	grpc://10.0.0.7:9000?life=f00d&weight=10&zone=a
func encode(env string, inst registry.Instance) wire.RegisterRequest {
	inst = inst.Clone() // fills in the defaults
	query := url.Values{keyWeight: {strconv.FormatUint(uint64(inst.Weight), 10)}}
	for key, value := range inst.Metadata {
		query.Set(key, value)
	}
	for key, value := range map[string]string{keyZone: inst.Zone, keyLife: inst.Life} {
		if value != "" {
			query.Set(key, value)
		}
	}
	at := url.URL{Scheme: schemePlain, RawQuery: query.Encode()}
	if inst.TLS {
		at.Scheme = schemeTLS
	}
	req := wire.RegisterRequest{
		Identity: wire.Identity{Env: env, AppID: inst.Service, Hostname: inst.ID},
		Version:  inst.Version,
		Status:   uint32(inst.Status),
	}
	for _, addr := range inst.Addrs {
		at.Host = addr
		req.Addrs = append(req.Addrs, at.String())
	}
	return req
}

// encodable says whether inst comes back from the registry as it went in.
func encodable(env string, inst registry.Instance) error {
	for _, field := range []struct{ name, value string }{{"service", inst.Service}, {"ID", inst.ID}, {"version", inst.Version}} {
		if !utf8.ValidString(field.value) {
			return fmt.Errorf("the %s %q is not UTF-8", field.name, field.value)
		}
	}
	if inst.Service == wire.NodeService {
		return fmt.Errorf("the service name %q belongs to the registry's own nodes", inst.Service)
	}
	req := encode(env, inst)
	back, _, err := decode(wire.Instance{AppID: req.AppID, Hostname: req.Hostname, Addrs: req.Addrs, Version: req.Version, Status: req.Status})
	if err != nil || !back.Equal(inst) {
		return fmt.Errorf("addresses %q cannot be written as URLs %q without change: use host:port, each once and at most %d", inst.Addrs, req.Addrs, maxAddrs)
	}
	return nil
}

// decode is the inverse of encode. It takes what others may have registered: of
// its addresses those that are grpc, of which the first one's query counts; note
// says what in them had to be put right. The error is why there is no instance
// to call.
func decode(entry wire.Instance) (inst registry.Instance, note string, err error) {
	if entry.Hostname == "" {
		return inst, "", errors.New("it has no hostname")
	}
	status := registry.Status(entry.Status)
	if entry.Status != uint32(registry.Up) && entry.Status != uint32(registry.Draining) {
		return inst, "", fmt.Errorf("status %d is neither %d (up) nor %d (draining)", entry.Status, registry.Up, registry.Draining)
	}
	inst = registry.Instance{
		Service: entry.AppID, ID: entry.Hostname, Version: entry.Version, Status: status,
		FirstRegistered: time.Unix(0, entry.UpTimestamp), LastRenewed: time.Unix(0, entry.RenewTimestamp),
	}
	var query string
	for _, text := range entry.Addrs {
		at, ok := parseAddr(text)
		if !ok {
			continue
		}
		tls := at.Scheme == schemeTLS
		if len(inst.Addrs) == 0 {
			inst.TLS, query = tls, at.RawQuery
		}
		if tls == inst.TLS && !slices.Contains(inst.Addrs, at.Host) {
			inst.Addrs = append(inst.Addrs, at.Host)
		}
		if len(inst.Addrs) == maxAddrs {
			break
		}
	}
	if len(inst.Addrs) == 0 {
		return inst, "", fmt.Errorf("none of its %d addresses is %s://host:port, %s://host:port or host:port", len(entry.Addrs), schemePlain, schemeTLS)
	}
	note = decodeQuery(&inst, query)
	return inst, note, nil
}

// decodeQuery fills in what travels in the query.
func decodeQuery(inst *registry.Instance, query string) (note string) {
	values, err := url.ParseQuery(query)
	if err != nil {
		note = fmt.Sprintf("address query %q: %v", query, err)
	}
	for key := range values {
		switch value := values.Get(key); key {
		case "":
		case keyZone:
			inst.Zone = value
		case keyLife:
			inst.Life = value
		case keyWeight:
			weight, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				weight, note = 1, fmt.Sprintf("weight %q is not a number from 0 to %d: 1 is used", value, uint32(math.MaxUint32))
			}
			inst.Weight = uint32(weight)
		default:
			if inst.Metadata == nil {
				inst.Metadata = make(map[string]string, len(values))
			}
			inst.Metadata[key] = value
		}
	}
	inst.Weight = inst.EffectiveWeight()
	return note
}

// parseAddr parses an address that is ours; a bare host:port is.
func parseAddr(text string) (*url.URL, bool) {
	if !strings.Contains(text, "://") {
		text = schemePlain + "://" + text
	}
	at, err := url.Parse(text)
	if err != nil || at.Scheme != schemePlain && at.Scheme != schemeTLS || registry.ValidateAddr(at.Host) != nil {
		return nil, false
	}
	return at, true
}
