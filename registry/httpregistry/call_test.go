package httpregistry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// rawAnswer sends these bytes in answer to anything and closes.
func rawAnswer(text string) func(net.Conn) {
	return func(c net.Conn) {
		buf := make([]byte, 4096)
		c.Read(buf)
		io.WriteString(c, text)
	}
}

// badRegistries are all that can be at an address instead of a registry, and what
// is said about them.
var badRegistries = []struct {
	name, reason string
	handler      http.HandlerFunc
	raw          func(net.Conn)
}{
	{"HTML", `the answer is not a registry's: "<html><body>It works!</body></html>" (text/html)`, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html><body>It works!</body></html>")
	}, nil},
	{"100 MB", "the answer is larger than 1048576 bytes", func(w http.ResponseWriter, _ *http.Request) {
		for range 100 {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}, nil},
	{"garbage JSON", `not a registry's: "{\"code\":200,\"data\":{{"`, says200(`{"code":200,"data":{{`), nil},
	{"data of another shape", `not a registry's: "\"x\""`, says200(`{"code":200,"data":"x"}`), nil},
	{"instances of another shape", `not a registry's: "{\"a\":1}"`, says200(`{"code":200,"data":{"instances":{"a":1}}}`), nil},
	{"another JSON API", `not a registry's: "{\"status\":\"ok\"}"`, says200(`{"status":"ok"}`), nil},
	{"code is text", `not a registry's`, says200(`{"code":"200"}`), nil},
	{"null", `not a registry's: "null"`, says200(`null`), nil},
	{"array", `not a registry's: "[]"`, says200(`[]`), nil},
	{"empty body", `not a registry's: ""`, says200(""), nil},
	{"redirect", `HTTP status 307 Temporary Redirect to "http://10.0.0.9:80/elsewhere", which is not followed`, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://10.0.0.9:80/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}, nil},
	{"not found", "HTTP status 404 Not Found (text/plain; charset=utf-8)", http.NotFound, nil},
	{"server error", "HTTP status 500 Internal Server Error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, nil},
	{"code 500", "refused with code 500 (boom)", says200(`{"code":500,"message":"boom"}`), nil},
	{"304 without fetchall", "code 304 to fetch, and to fetchall: ", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathFetch {
			says200(`{"code":304,"data":"","message":"code: 304, error info: app not modified"}`)(w, r)
			return
		}
		http.NotFound(w, r)
	}, nil},
	{"half an answer", "the answer breaks off: unexpected EOF", nil, rawAnswer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"code\":2")},
	{"half a header", "the answer is not HTTP", nil, rawAnswer("HTTP/1.1 200 OK\r\nConte")},
	{"closes", "connection closed without an answer", nil, rawAnswer("")},
	{"not HTTP", "the answer is not HTTP", nil, rawAnswer("220 mail.example.com ESMTP\r\n")},
	{"silence", "no answer within 2s", nil, func(c net.Conn) { io.Copy(io.Discard, c) }},
	{"nothing there", "connection refused", nil, nil},
}

func (n *network) bad(addr string, handler http.HandlerFunc, raw func(net.Conn)) {
	switch {
	case handler != nil:
		n.serve(addr, handler)
	case raw != nil:
		n.raw(addr, raw)
	default:
		n.kill(addr)
	}
}

// A bad registry is told from a good one, with the reason, costs nobody the set he
// has, and is forgotten one poll and a second after a good one has taken its place.
func TestBadRegistry(t *testing.T) {
	const addr = "10.0.0.1:6666"
	for _, bad := range badRegistries {
		t.Run(bad.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				n.bad(addr, bad.handler, bad.raw)
				c := n.client([]string{addr}, WithEnv("prod"), WithMaxResponse(1<<20))
				_, err := c.Fetch(t.Context(), "greeter")
				want := fmt.Sprintf(`httpregistry: fetch "greeter" (env "prod"): no registry node answers: %s: `, addr)
				if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), bad.reason) || !errors.Is(err, registry.ErrUnavailable) {
					t.Errorf("Fetch = %v\nwant %s… %s", err, want, bad.reason)
				}
				w := watchIt(t, c, "greeter")
				pass(time.Minute)
				if all := w.all(); len(all) != 1 || all[0] != "no registry node answers" {
					t.Errorf("the watcher was told %q, want the reason once", all)
				}

				good := n.registry(addr)
				good.do(wire.PathRegister, encode("prod", instance("greeter", 1)))
				pass(6 * time.Second)
				if got, err := w.last(); got != "i1" {
					t.Fatalf("6 s after the end: %s, %v", got, err)
				}
				n.bad(addr, bad.handler, bad.raw)
				pass(time.Minute)
				snap, err := c.Fetch(t.Context(), "greeter")
				if ids(snap) != "i1?" || err != nil || !strings.Contains(snap.Reason, bad.reason) {
					t.Errorf("Fetch after it had worked = %s, %v, because %q; want the last good set because %q", ids(snap), err, snap.Reason, bad.reason)
				}
				good = n.registry(addr)
				good.do(wire.PathRegister, encode("prod", instance("greeter", 1)))
				pass(6 * time.Second)
				if got, err := w.last(); got != "i1" || err != nil {
					t.Errorf("6 s after the second end: %s, %v", got, err)
				}
				if n.dialled("10.0.0.9:80", time.Time{}) > 0 {
					t.Error("the redirect was followed")
				}
			})
		})
	}
}

// The request is what the API asks for: POST, JSON, the exact path, the known keys
// and no other (dirtytimestamp, latesttimestamp and replication do harm).
func TestRequestsAreAsTheAPIWantsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry("10.0.0.1:6666")
		c := n.client([]string{"10.0.0.1:6666"})
		inst := instance("greeter", 1)
		inst.Version, inst.Metadata = "2", map[string]string{"replication": "true"}
		r := mustRegister(t, c, inst)
		c.Fetch(t.Context(), "greeter")
		pass(10 * time.Minute)
		r.Deregister(t.Context())

		keys := map[string]string{
			wire.PathRegister: "addrs appid env hostname status version", wire.PathRenew: "appid env hostname", wire.PathCancel: "appid env hostname",
			wire.PathFetch: "appid env status", wire.PathNodes: "env",
		}
		seen := map[string]bool{}
		for _, req := range node.requests {
			path, ok := strings.CutPrefix(req.path, "POST ")
			if !ok || keys[path] == "" {
				t.Errorf("request %q", req.path)
				continue
			}
			seen[path] = true
			for key := range req.body {
				if !strings.Contains(keys[path], key) {
					t.Errorf("%s has the key %q", path, key)
				}
			}
			for key := range strings.FieldsSeq(keys[path]) {
				if req.body[key] == nil {
					t.Errorf("%s lacks %q: %v", path, key, req.body)
				}
			}
			if got := req.header.Get("Content-Type"); got != "application/json" {
				t.Errorf("%s has the content type %q", path, got)
			}
			if _, ok := req.header["Idempotency-Key"]; ok {
				t.Errorf("%s carries an Idempotency-Key", path)
			}
			if path == wire.PathFetch && req.body["status"] != 3.0 {
				t.Errorf("fetch asks for status %v, want 3: draining instances are wanted too", req.body["status"])
			}
		}
		if len(seen) != len(keys) {
			t.Errorf("seen %v, want all of %v", seen, keys)
		}
	})
}

// Codes come first: data and message may be missing or of any shape.
func TestAnswersWithoutWhatTheCodeDoesNotPromise(t *testing.T) {
	for _, text := range []string{
		`{"code":404}`, `{"code":404,"data":"","message":"x"}`, `{"code":404,"data":[1,2]}`, `{"code":404,"data":null,"message":null}`,
		`{"CODE":404}`, ` {"code":404,"more":{"a":[]}} `, `{"code":200}`, `{"code":200,"data":null}`, `{"code":200,"data":{}}`,
		`{"code":200,"data":{"instances":null}}`, `{"code":200,"data":{"instances":[]},"message":""}`,
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			n.serve("10.0.0.1:6666", says200(text))
			_, err := n.client([]string{"10.0.0.1:6666"}).Fetch(t.Context(), "greeter")
			if !errors.Is(err, registry.ErrUnknownService) {
				t.Errorf("%s: %v, want ErrUnknownService", text, err)
			}
		})
	}
}

// Odd entries cost nobody the good ones.
func TestOddEntriesAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		log := &logs{}
		n.serve("10.0.0.1:6666", says200(`{"code":200,"data":{"latest_timestamp":1.5e300,"instances":[
			{"env":"dev","appid":"s","hostname":"good","addrs":["grpc://h:1?weight=7"],"status":1,"up_timestamp":1795330114040505229,"renew_timestamp":9223372036854775807},
			{"env":"dev","appid":"s","hostname":"null","addrs":null,"status":1},
			{"env":"dev","appid":"s","hostname":"status","addrs":["h:2"],"status":3},
			{"env":"dev","appid":"s","hostname":"other","addrs":["http://h:3"],"status":1},
			{"env":"dev","appid":"s","hostname":"weight","addrs":["grpc://h:4?weight=-5"],"status":1},
			{"env":"b-dev","appid":"s","hostname":"foreign","addrs":["h:5"],"status":1},
			{"env":"dev","appid":"s","hostname":"typed","addrs":"h:6","status":1},
			{"env":"dev","appid":"s","hostname":"float","addrs":["h:7"],"status":1,"up_timestamp":1.5},
			{"env":"dev","appid":"s","hostname":"","addrs":["h:8"],"status":1},
			null, 7
		]}}`))
		c := n.client([]string{"10.0.0.1:6666"}, WithLogger(log.logger()))
		w := watchIt(t, c, "s")
		pass(time.Minute)
		if got, err := w.last(); got != "good weight" || w.told() != 1 {
			t.Fatalf("told %d times, last %s, %v; want good and weight, once", w.told(), got, err)
		}
		snap := w.snaps[0]
		if got := snap.Instances[0].FirstRegistered.UnixNano(); got != 1795330114040505229 {
			t.Errorf("first registered at %d ns", got)
		}
		if got := snap.Instances[0].LastRenewed.UnixNano(); got != 9223372036854775807 {
			t.Errorf("last renewed at %d ns", got)
		}
		var got []string
		for _, s := range snap.Skipped {
			if s.Reason == "" {
				t.Errorf("%q is skipped without a reason", s.ID)
			}
			got = append(got, s.ID)
		}
		// "typed", "float", and 7 are no instances at all: their ID is unknown.
		if want := ` | | | | |foreign|null|other|status`; strings.Join(got, "|") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("skipped %q, want %q", strings.Join(got, "|"), want)
		}
		if count := log.count("entry skipped"); count != len(snap.Skipped) {
			t.Errorf("%d skipped entries were logged in a minute of polls, want %d", count, len(snap.Skipped))
		}
		if count := log.count("entry put right"); count != 1 {
			t.Errorf("the bad weight was logged %d times, want once", count)
		}
	})
}

// A node whose counter has overflowed says 304 to fetch and still tells the set.
func TestNotModifiedIsAskedAnotherWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry("10.0.0.1:6666")
		node.put(instance("greeter", 1), instance("greeter", 2), instance("other", 3))
		node.do(wire.PathRegister, encode("test", instance("greeter", 4)))
		node.answer(wire.PathFetch, says200(`{"code":304,"data":"","message":"code: 304, error info: app not modified"}`))
		c := n.client([]string{"10.0.0.1:6666"})
		snap, err := c.Fetch(t.Context(), "greeter")
		if got := ids(snap); got != "i1 i2" || err != nil || len(snap.Skipped) > 0 {
			t.Errorf("Fetch = %s, %v, skipped %v", got, err, snap.Skipped)
		}
		// Without that way it is no news, however long it takes.
		node.answer(wire.PathFetchAll, http.NotFound)
		w := watchIt(t, c, "greeter")
		pass(time.Hour)
		if snap, err := c.Fetch(t.Context(), "greeter"); ids(snap) != "i1 i2?" || err != nil {
			t.Errorf("Fetch after an hour of 304 = %s, %v", ids(snap), err)
		}
		if got := kind(w.errs[len(w.errs)-1]); got != "no registry node answers" {
			t.Errorf("the watcher was told %s", got)
		}
	})
}

// An idle connection that the node has closed is not the node's failure, whether
// that is noticed before the next request or by it.
func TestIdleConnectionsMayBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		log := &logs{}
		node := n.registry("10.0.0.1:6666")
		node.put(instance("s", 1))
		requests := 0
		node.answer(wire.PathFetch, func(w http.ResponseWriter, r *http.Request) {
			if requests++; requests%2 == 0 {
				panic(http.ErrAbortHandler) // closes the connection
			}
			node.Server.ServeHTTP(w, r)
		})
		c := n.client([]string{"10.0.0.1:6666"}, WithLogger(log.logger()))
		fetch := func() {
			t.Helper()
			if snap, err := c.Fetch(t.Context(), "s"); ids(snap) != "i1" || err != nil || !snap.Confirmed {
				t.Errorf("Fetch = %s, %v", ids(snap), err)
			}
			pass(2 * time.Second)
		}
		for range 5 {
			fetch()
		}
		for range 5 {
			n.registry("10.0.0.1:6666").put(instance("s", 1)) // restarts at once
			fetch()
		}
		if log.count("registry node failed") > 0 {
			t.Errorf("log: %v", log.lines)
		}
	})
}

// 10,000 instances fit under the default cap.
func TestLargeServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry("10.0.0.1:6666")
		for i := range 10_000 {
			inst := instance("s", i)
			inst.Addrs = []string{fmt.Sprintf("10.%d.%d.1:9000", i/250, i%250)}
			inst.Zone, inst.Metadata = "eu-central-1a", map[string]string{"commit": strings.Repeat("f", 40), "team": "payments"}
			node.put(inst)
		}
		c := n.client([]string{"10.0.0.1:6666"})
		snap, err := c.Fetch(t.Context(), "s")
		if len(snap.Instances) != 10_000 || err != nil {
			t.Errorf("%d instances, %v", len(snap.Instances), err)
		}
		small := n.client([]string{"10.0.0.1:6666"}, WithMaxResponse(1000))
		if _, err := small.Fetch(t.Context(), "s"); err == nil || !strings.Contains(err.Error(), "larger than 1000 bytes") {
			t.Errorf("Fetch with a cap of 1000 bytes = %v", err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	for _, text := range []string{
		`{"code":200,"data":{"instances":[{"env":"dev","appid":"s","hostname":"h","addrs":["grpc://h:1"],"status":1}],"latest_timestamp":1},"message":""}`,
		`{"code":404,"data":"","message":"m"}`, `{"code":200,"data":{"instances":[null,1,{}]}}`, `[]`, ``,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := &Client{config: defaults()}
		r, err := c.read(&http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))})
		if err != nil {
			return
		}
		entries, strange, err := instancesOf(r.Data)
		if err != nil {
			return
		}
		a := newAnswer("n", "dev", "s", entries, strange)
		for _, inst := range a.instances {
			if err := inst.Validate(); err != nil {
				t.Errorf("%v", err)
			}
		}
		if len(a.instances) == 0 && a.why == "" {
			t.Error("no instances and no reason")
		}
	})
}
