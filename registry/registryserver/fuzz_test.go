package registryserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

var paths = []string{wire.PathRegister, wire.PathRenew, wire.PathCancel, wire.PathFetch, wire.PathFetchAll, wire.PathNodes}

// FuzzRequest: whatever is posted, the answer is HTTP 200 with one of the
// endpoint's answers, and a request that is refused changes nothing.
func FuzzRequest(f *testing.F) {
	for file, flow := range loadTranscripts(f) {
		for _, e := range flow {
			body := e.Request.Body + string(e.Request.BodyBase64)
			if i := slices.Index(paths, e.Request.Path); i >= 0 && outOfScope[file] == "" && len(body) < 1000 {
				f.Add(uint8(i), []byte(body))
			}
		}
	}
	f.Fuzz(func(t *testing.T, n uint8, body []byte) {
		path := paths[int(n)%len(paths)]
		s := newServer(t)
		register(t, s, "app", "h1")
		before := state(s)
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
		if rec.Code != http.StatusOK {
			t.Fatalf("HTTP status %d", rec.Code)
		}
		checkShape(t, path, rec.Body.Bytes())
		changed := state(s) != before
		written := (path == wire.PathRegister || path == wire.PathRenew || path == wire.PathCancel) &&
			strings.HasPrefix(rec.Body.String(), `{"code":200`)
		if changed != written {
			t.Errorf("%s answered %s; changed: %v", path, rec.Body, changed)
		}
		if !json.Valid([]byte(post(t, s, wire.PathFetchAll, ""))) {
			t.Errorf("fetchall is not JSON: %s", post(t, s, wire.PathFetchAll, ""))
		}
	})
}

// state is all that requests can change.
func state(s *Server) string {
	counters := map[key]int64{}
	for k, b := range s.store.buckets {
		counters[k] = b.counter
	}
	return fmt.Sprintf("%s %v %d", s.store.appendAll(nil), counters, s.store.beats)
}

// checkShape holds an answer against the API's table of which keys there are.
func checkShape(t *testing.T, path string, body []byte) {
	t.Helper()
	var v map[string]json.RawMessage
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	var keys []string
	for key := range v {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	shape := string(v["code"]) + " " + strings.Join(keys, " ")
	want := map[string][]string{
		wire.PathRegister: {"200 code data message", "400 code message"},
		wire.PathRenew:    {"200 code", "400 code message", "404 code message"},
		wire.PathCancel:   {"200 code message", "400 code message", "404 code message"},
		wire.PathFetch:    {"200 code data message", "400 code message", "404 code data message"},
		wire.PathFetchAll: {"200 code data message"},
		wire.PathNodes:    {"200 code data message", "400 code message", "404 code data message"},
	}[path]
	if !slices.Contains(want, shape) {
		t.Errorf("%s answered %s: shape %q, want one of %q", path, body, shape, want)
	}
}

// FuzzEntry: an entry put together from its parts is what encoding/json makes of it.
func FuzzEntry(f *testing.F) {
	f.Add("dev", "app", "h1", "grpc://127.0.0.1:9000?weight=10&zone=a", "v1", uint32(1), int64(1), int64(2))
	f.Add("", "", "", "", "", uint32(2), int64(0), int64(-1))
	f.Add(`"up_timestamp":0,"renew_timestamp":0`, `\`, "\xff", "<\u2028>", `{"up_timestamp":0,"renew_timestamp":0}`, uint32(1), int64(5), int64(7))
	f.Fuzz(func(t *testing.T, env, app, host, addr, version string, status uint32, registered, up int64) {
		now := time.Unix(0, registered)
		for _, addrs := range [][]string{nil, {}, {addr}, {addr, "", addr}} {
			req := wire.RegisterRequest{
				Identity: wire.Identity{Env: env, AppID: app, Hostname: host},
				Addrs:    addrs, Version: version, Status: status,
			}
			e := newEntry(req, 42, now)
			e.up, e.renewed = up, now.Add(time.Second)
			want := wire.Instance{
				Env: env, AppID: app, Hostname: host, Addrs: addrs, Version: version, Status: status,
				RegTimestamp: registered, UpTimestamp: up, RenewTimestamp: e.renewed.UnixNano(), DirtyTimestamp: 42, LatestTimestamp: registered,
			}
			if got := e.appendJSON(nil, e.headAll); !bytes.Equal(got, marshal(want)) {
				t.Errorf("fetchall: %s, want %s", got, marshal(want))
			}
			if addrs == nil {
				want.Addrs = []string{}
			}
			if got := e.appendJSON(nil, e.head); !bytes.Equal(got, marshal(want)) {
				t.Errorf("fetch: %s, want %s", got, marshal(want))
			}
		}
	})
}
