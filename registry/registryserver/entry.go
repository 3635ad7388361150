package registryserver

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// entry is a registered instance, encoded once: only up and renewed are known
// later or change, and are put between head and tail by appendJSON. Everything
// but these two is immutable.
type entry struct {
	hostname string
	status   uint32
	dirty    int64     // ns since 1970: version of the content
	up       int64     // ns since 1970: first registered
	renewed  time.Time // last registered or renewed; its monotonic part keeps expiry right when the clock is set

	head, tail []byte
	// headAll is head for fetchall, which tells addrs that were never given as
	// null where fetch says [].
	headAll []byte
}

// usualSize is about what an encoded instance takes, in bytes.
const usualSize = 400

func newEntry(r wire.RegisterRequest, dirty int64, now time.Time) *entry {
	e := &entry{
		hostname: r.Hostname,
		status:   r.Status,
		dirty:    dirty,
		up:       now.UnixNano(),
		renewed:  now,
	}
	inst := wire.Instance{
		Env:             r.Env,
		AppID:           r.AppID,
		Hostname:        r.Hostname,
		Addrs:           r.Addrs,
		Version:         r.Version,
		Status:          r.Status,
		RegTimestamp:    now.UnixNano(),
		DirtyTimestamp:  dirty,
		LatestTimestamp: now.UnixNano(),
	}
	e.head, e.tail = split(marshal(inst))
	e.headAll = e.head
	if inst.Addrs == nil {
		inst.Addrs = []string{}
		e.head, _ = split(marshal(inst))
	}
	return e
}

// split cuts an encoded instance where appendJSON puts the numbers in. Quotes
// inside texts are escaped, so only the key itself can match.
func split(inst []byte) (head, tail []byte) {
	head, tail, _ = bytes.Cut(inst, []byte(`0,"renew_timestamp":0`))
	return head, tail
}

// appendJSON appends the entry as a wire.Instance; head is e.head or e.headAll.
func (e *entry) appendJSON(dst, head []byte) []byte {
	dst = append(dst, head...)
	dst = strconv.AppendInt(dst, e.up, 10)
	dst = append(dst, `,"renew_timestamp":`...)
	dst = strconv.AppendInt(dst, e.renewed.UnixNano(), 10)
	return append(dst, e.tail...)
}

// marshal encodes strings, numbers and what is made of them, which cannot fail.
func marshal(v any) []byte {
	text, _ := json.Marshal(v)
	return text
}
