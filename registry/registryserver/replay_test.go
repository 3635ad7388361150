package registryserver

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// What the recordings hold. A file or exchange that the tests below do not
// account for is an error.
const (
	recordedFiles     = 174
	recordedExchanges = 474
)

// outOfScope are the files that are not replayed: all show several nodes at
// once, and this registry is one.
var outOfScope = map[string]string{
	"cluster_cancel_404_not_replicated": "forwarding of changes to peers",
	"cluster_eviction_is_local":         "expiry on several nodes",
	"cluster_full_restart":              "restart of several nodes",
	"cluster_join_window":               "a node that joins others",
	"cluster_kill_restart":              "a node that takes its peers' state over at start",
	"cluster_no_repair_by_renew":        "forwarding of changes to peers",
	"cluster_nodes":                     "the list of several nodes",
	"cluster_peer_wire_form":            "requests that a node sends to its peers",
	"cluster_replication":               "forwarding of changes to peers",
	"cluster_restart_union":             "a node that takes its peers' state over at start",
	"cluster_sigterm":                   "a node that takes leave of its peers",
	"cluster_sigterm_zombie":            "a node that takes leave of its peers",
}

// step is one exchange of a file, counted from 0.
type step struct {
	file string
	n    int
}

// better are the exchanges that this registry deliberately answers otherwise
// than recorded, with what it answers instead.
var better = map[step]string{
	// Only the node itself registers among the registry's nodes, or cancels.
	{"flow_client_registers_as_node", 1}: badRequest,
	{"flow_client_registers_as_node", 2}: fetched(1, node()),
	{"flow_client_registers_as_node", 3}: badRequest,
	{"flow_client_cancels_node", 0}:      badRequest,
	{"flow_client_cancels_node", 1}:      fetched(1, node()),
	{"flow_client_cancels_node", 2}:      fetchedAll(wire.NodeService, node()),
	{"flow_client_cancels_node", 3}:      fetched(1, renewed(node())),

	// (a, b-c) and (a-b, c) are two apps.
	{"flow_key_ambiguity", 1}: fetchNone,
	{"flow_key_ambiguity", 3}: fetched(1, inst("b-c", "a", "h1", grpcAddr)),
	{"flow_key_ambiguity", 4}: `{"code":200,"data":{"a":[` + inst("b-c", "a", "h1", grpcAddr) +
		`],"a-b":[` + inst("c", "a-b", "h2", grpcAddr) + `],"Kavin.discovery":[` + node() + `]},"message":""}`,
	{"flow_key_ambiguity", 5}: unknown,

	// A latesttimestamp of the future counts as not given: no overflow, no 304.
	{"flow_latest_timestamp_overflow", 2}:  fetched(2, app("h1"), app("h2")),
	{"flow_latest_timestamp_overflow", 4}:  fetched(3, app("h1"), app("h2"), app("h3")),
	{"flow_latest_timestamp_overflow", 8}:  fetched(4, renewed(app("h1")), app("h2"), app("h3"), app("h4")),
	{"flow_latest_timestamp_overflow", 10}: fetched(5, renewed(app("h1")), app("h2"), app("h3"), app("h4"), app("h5")),

	// A dirtytimestamp of the future counts as not given: it pins nothing.
	{"flow_dirty_older_ignored", 1}: fetched(1, inst("dev", "app", "h1", "new")),
	{"flow_dirty_older_ignored", 3}: fetched(2, inst("dev", "app", "h1", "new")),
	{"flow_dirty_older_ignored", 5}: fetched(3, strings.Replace(inst("dev", "app", "h1", "ordinary"), `"up_timestamp":2`, `"up_timestamp":1`, 1)),
}

const grpcAddr = "grpc://127.0.0.1:9000"

// inst is an instance as emitted right after its first registration: all times equal.
func inst(env, app, host, addr string) string {
	return fmt.Sprintf(`{"env":%q,"appid":%q,"hostname":%q,"addrs":[%q],"version":"","status":1,`+
		`"reg_timestamp":2,"up_timestamp":2,"renew_timestamp":2,"dirty_timestamp":2,"latest_timestamp":2}`, env, app, host, addr)
}

func app(host string) string { return inst("dev", "app", host, grpcAddr) }

func node() string { return inst("dev", wire.NodeService, "sd1", "http://127.0.0.1:18881") }

func renewed(inst string) string {
	return strings.Replace(inst, `"renew_timestamp":2`, `"renew_timestamp":3`, 1)
}

func fetched(counter int64, insts ...string) string {
	return fmt.Sprintf(`{"code":200,"data":{"instances":[%s],"latest_timestamp":%d},"message":""}`, strings.Join(insts, ","), counter)
}

func fetchedAll(app string, insts ...string) string {
	return fmt.Sprintf(`{"code":200,"data":{%q:[%s]},"message":""}`, app, strings.Join(insts, ","))
}

// TestReplay sends every recorded request of a single node to this registry, at
// the pace and the date of the recording, and compares the answers.
func TestReplay(t *testing.T) {
	flows := loadTranscripts(t)
	replayed, skipped := 0, 0
	for _, file := range slices.Sorted(maps.Keys(flows)) {
		if outOfScope[file] != "" {
			skipped += len(flows[file])
			continue
		}
		replayed += len(flows[file])
		t.Run(file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { replayInBubble(t, file, flows[file]) })
		})
	}
	if len(flows) != recordedFiles || replayed+skipped != recordedExchanges {
		t.Errorf("%d files with %d exchanges replayed and %d out of scope, want %d files with %d",
			len(flows), replayed, skipped, recordedFiles, recordedExchanges)
	}
	for file := range outOfScope {
		if flows[file] == nil {
			t.Errorf("%s is out of scope but does not exist", file)
		}
	}
	for at, body := range better {
		if at.n >= len(flows[at.file]) {
			t.Errorf("%v is answered better but does not exist", at)
			continue
		}
		e := flows[at.file][at.n]
		if diff(answer{e.Response.Status, headersOf(e.Response), []byte(body)}, e.Response, e.asksForNodes()) == "" {
			t.Errorf("%v is not answered otherwise than recorded", at)
		}
	}
	t.Logf("%d exchanges replayed, %d of them answered better, %d out of scope", replayed, len(better), skipped)
}

func headersOf(r recorded) http.Header {
	h := http.Header{}
	for name, value := range r.Headers {
		h.Set(name, value)
	}
	return h
}

func replayInBubble(t *testing.T, file string, flow []exchange) {
	at, err := flow[0].recordedAt()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(at))
	start := time.Now()
	lis := newPipeListener()
	stop := serveRecorded(t, lis)
	for n, e := range flow {
		if e.Before != "" { // all say that the node was killed and started again
			stop()
			lis = newPipeListener()
			stop = serveRecorded(t, lis)
		}
		// At least a little later than the step before: no two have the same time.
		time.Sleep(max(time.Microsecond, time.Duration(e.AtMS)*time.Millisecond-time.Since(start)))
		replay(t, step{file, n}, e, lis.dial)
	}
}

// replay sends one request and compares.
func replay(t *testing.T, at step, e exchange, dial func() (net.Conn, error)) {
	t.Helper()
	got, err := roundTrip(dial, e.Request.Method, e.raw(at.file))
	if err != nil {
		t.Errorf("step %d, %s: %v", at.n, e.Name, err)
		return
	}
	want := e.Response
	if body, ok := better[at]; ok {
		want.Body = body
	}
	if problem := diff(got, want, e.asksForNodes()); problem != "" {
		t.Errorf("step %d, %s: %s", at.n, e.Name, problem)
	}
}

// serveRecorded serves as the node did that was recorded.
func serveRecorded(t *testing.T, lis net.Listener) (stop func()) {
	t.Helper()
	return serve(t, lis, WithEnv("dev"), WithNodeName("sd1"), WithAdvertise("127.0.0.1:18881"))
}

// serve runs a Server on lis until the test ends or stop is called.
func serve(t *testing.T, lis net.Listener, opts ...Option) (stop func()) {
	t.Helper()
	s, err := New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background(), lis) }()
	stop = func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	stop = sync.OnceFunc(stop)
	t.Cleanup(stop)
	return stop
}

// TestReplayOverTCP sends what depends on HTTP itself over real connections.
func TestReplayOverTCP(t *testing.T) {
	kinds := []string{"http_", "method_", "path_", "size_", "register_http10", "register_expect_100",
		"register_chunked", "register_no_body_no_length", "register_empty_body", "register_body_gzip", "text_invalid_utf8"}
	for file, flow := range loadTranscripts(t) {
		if !slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasPrefix(file, kind) }) {
			continue
		}
		t.Run(file, func(t *testing.T) {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			serveRecorded(t, lis)
			dial := func() (net.Conn, error) { return net.Dial("tcp", lis.Addr().String()) }
			for n, e := range flow {
				replay(t, step{file, n}, e, dial)
			}
		})
	}
}
