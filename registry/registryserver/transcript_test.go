package registryserver

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// exchange is one recorded request and the answer that the original registry gave.
type exchange struct {
	Name    string
	Request struct {
		Method, Path string
		Headers      map[string]string
		Body         string
		BodyBase64   []byte `json:"body_base64"` // instead of Body where that is not UTF-8
		HTTPVersion  string `json:"http_version"`
	}
	Response recorded
	AtMS     int64  `json:"at_ms"` // since the start of the flow
	Before   string // what was done to the node before this step
}

type recorded struct {
	Status        int
	Headers       map[string]string
	Body          string
	BodyTruncated bool `json:"body_truncated"`
	BodyLength    int  `json:"body_length"`
}

// loadTranscripts returns the flows by file name without ".json".
func loadTranscripts(tb testing.TB) map[string][]exchange {
	tb.Helper()
	files, err := filepath.Glob("testdata/transcripts/*.json")
	if err != nil {
		tb.Fatal(err)
	}
	flows := map[string][]exchange{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		if text[0] == '{' { // one exchange
			text = slices.Concat([]byte("["), text, []byte("]"))
		}
		var flow []exchange
		if err := json.Unmarshal(text, &flow); err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		flows[strings.TrimSuffix(filepath.Base(file), ".json")] = flow
	}
	return flows
}

// rewrites give the bytes of requests that the files only describe.
var rewrites = map[string]func(request string) string{
	"http_garbage":            func(string) string { return "hello\r\n\r\n" },
	"http_no_host":            func(r string) string { return strings.Replace(r, "Host: 127.0.0.1:18881\r\n", "", 1) },
	"http_bad_content_length": func(r string) string { return strings.Replace(r, "\r\n\r\n", "\r\nContent-Length: -1\r\n\r\n", 1) },
	"size_header_over_1MB":    func(r string) string { return strings.Replace(r, "x...", strings.Repeat("x", 1_100_000), 1) },
	"size_10MB_body": func(r string) string {
		if head, _, cut := strings.Cut(r, `"version":"v`); cut {
			return head + `"version":"` + strings.Repeat("v", 10_000_000) + `"}`
		}
		return r // the fetch that follows
	},
}

// raw is the request as it goes over the connection.
func (e exchange) raw(file string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\n", e.Request.Method, e.Request.Path, cmp.Or(e.Request.HTTPVersion, "HTTP/1.1"))
	for _, name := range slices.Sorted(maps.Keys(e.Request.Headers)) {
		fmt.Fprintf(&b, "%s: %s\r\n", name, e.Request.Headers[name])
	}
	b.WriteString("\r\n")
	body := e.Request.Body + string(e.Request.BodyBase64)
	if e.Request.Headers["Transfer-Encoding"] == "chunked" {
		body = fmt.Sprintf("%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", 10, body[:10], len(body)-10, body[10:])
	}
	b.WriteString(body)
	if rewrite := rewrites[file]; rewrite != nil {
		return rewrite(b.String())
	}
	return b.String()
}

// answer is what came back.
type answer struct {
	status  int
	headers http.Header
	body    []byte
}

// roundTrip sends raw bytes over a connection of their own and reads the answer.
func roundTrip(dial func() (net.Conn, error), method, raw string) (answer, error) {
	conn, err := dial()
	if err != nil {
		return answer{}, err
	}
	sent := make(chan struct{})
	defer func() { <-sent }()
	defer func() { _ = conn.Close() }()
	go func() {
		defer close(sent)
		_, _ = io.WriteString(conn, raw) // the server may answer before it has read everything
	}()
	in := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return answer{}, err
		}
		if resp.StatusCode == http.StatusContinue {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		return answer{resp.StatusCode, resp.Header, body}, err
	}
}

// diff says how the answer differs from the recorded one, or nothing. Volatile
// is what the recordings declare volatile, and no more than that: the values of
// an instance's times (their order stays), the order of instances, the counter
// of the registry's own app, and the date.
func diff(got answer, want recorded, nodeCounter bool) string {
	if got.status != want.Status {
		return fmt.Sprintf("status %d, want %d", got.status, want.Status)
	}
	for _, name := range []string{"Content-Type", "Location"} {
		if got := got.headers.Get(name); got != want.Headers[name] {
			return fmt.Sprintf("%s %q, want %q", name, got, want.Headers[name])
		}
	}
	switch {
	case want.BodyTruncated:
		if len(got.body) != want.BodyLength || !json.Valid(got.body) || !strings.HasPrefix(string(got.body), want.Body) {
			return fmt.Sprintf("body of %d bytes, want %d starting with %.200s", len(got.body), want.BodyLength, want.Body)
		}
		return ""
	case !strings.HasPrefix(want.Headers["Content-Type"], "application/json"):
		if string(got.body) != want.Body {
			return fmt.Sprintf("body %q, want %q", got.body, want.Body)
		}
		return ""
	}
	gotBody, err := canonical(got.body, nodeCounter)
	if err != nil {
		return fmt.Sprintf("body %s: %v", got.body, err)
	}
	wantBody, err := canonical([]byte(want.Body), nodeCounter)
	if err != nil {
		return fmt.Sprintf("the recorded body %s: %v", want.Body, err)
	}
	if gotBody != wantBody {
		return fmt.Sprintf("body\n     %s\nwant %s", gotBody, wantBody)
	}
	return ""
}

// canonical is the body with sorted keys and instances and without what is volatile.
func canonical(body []byte, nodeCounter bool) (string, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		return "", err
	}
	if rest, _ := io.ReadAll(dec.Buffered()); len(rest) > 0 {
		return "", fmt.Errorf("followed by %q", rest)
	}
	if data, ok := v["data"].(map[string]any); ok {
		if nodeCounter && data["latest_timestamp"] != nil {
			data["latest_timestamp"] = "any"
		}
		for name, list := range data {
			if list, ok := list.([]any); ok {
				data[name] = canonicalInstances(list)
			}
		}
	}
	text, err := json.Marshal(v)
	return string(text), err
}

func canonicalInstances(list []any) []any {
	var texts []string
	for _, inst := range list {
		if inst, ok := inst.(map[string]any); ok {
			rankTimes(inst)
		}
		text, _ := json.Marshal(inst)
		texts = append(texts, string(text))
	}
	slices.Sort(texts)
	out := make([]any, len(texts))
	for i, text := range texts {
		out[i] = json.RawMessage(text)
	}
	return out
}

// rankTimes replaces the times of an instance by their rank among each other.
func rankTimes(inst map[string]any) {
	times := map[string]int64{}
	var sorted []int64
	for name, value := range inst {
		if number, ok := value.(json.Number); ok && strings.HasSuffix(name, "_timestamp") {
			if ns, err := number.Int64(); err == nil {
				times[name] = ns
				sorted = append(sorted, ns)
			}
		}
	}
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	for name, ns := range times {
		rank, _ := slices.BinarySearch(sorted, ns)
		inst[name] = rank
	}
}

// pipeListener is a network in memory, so that a server can run in a bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// recordedAt is when the exchange was recorded, or a time near it where the
// answer had no date.
func (e exchange) recordedAt() (time.Time, error) {
	return time.Parse(http.TimeFormat, cmp.Or(e.Response.Headers["Date"], "Sun, 22 Nov 2026 06:48:30 GMT"))
}

// asksForNodes says that the counter in the answer is that of the registry's own app.
func (e exchange) asksForNodes() bool {
	return e.Request.Path == wire.PathNodes || strings.Contains(e.Request.Body, wire.NodeService)
}
