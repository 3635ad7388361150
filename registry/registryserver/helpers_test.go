package registryserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// newServer returns a node that is closed when the test ends.
func newServer(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	s, err := New(append([]Option{WithNodeName("n1"), WithAdvertise("127.0.0.1:6666")}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// post calls the handler and returns the body of its answer, which must come
// with HTTP status 200.
func post(tb testing.TB, h http.Handler, path, body string) string {
	tb.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	if rec.Code != http.StatusOK {
		tb.Errorf("%s %.200s: HTTP status %d", path, body, rec.Code)
	}
	return rec.Body.String()
}

// expect posts and compares the answer.
func expect(tb testing.TB, h http.Handler, path, body, want string) {
	tb.Helper()
	if got := post(tb, h, path, body); got != want {
		tb.Errorf("%s %s: %s, want %s", path, body, got, want)
	}
}

// request is one about an instance of the environment dev, with more keys.
func request(service, id string, more ...string) string {
	return fmt.Sprintf(`{"env":"dev","appid":%q,"hostname":%q%s}`, service, id, strings.Join(more, ""))
}

// register puts an instance into the environment dev.
func register(tb testing.TB, h http.Handler, service, id string, more ...string) {
	tb.Helper()
	body := request(service, id, append([]string{`,"addrs":["grpc://127.0.0.1:9000"],"status":1`}, more...)...)
	expect(tb, h, wire.PathRegister, body, registerOK)
}

// fetch returns the data of a fetch in the environment dev, or nothing for 404.
func fetch(tb testing.TB, h http.Handler, service string) wire.FetchData {
	tb.Helper()
	var resp struct {
		Code int
		Data json.RawMessage
	}
	var data wire.FetchData
	text := post(tb, h, wire.PathFetch, fmt.Sprintf(`{"env":"dev","appid":%q,"status":3}`, service))
	err := json.Unmarshal([]byte(text), &resp)
	if err == nil && resp.Code == wire.CodeOK {
		err = json.Unmarshal(resp.Data, &data)
	}
	if err != nil {
		tb.Errorf("fetch %s: %s: %v", service, text, err)
	}
	return data
}

// ids are the hostnames, in the order of the answer.
func ids(data wire.FetchData) string {
	var names []string
	for _, inst := range data.Instances {
		names = append(names, inst.Hostname)
	}
	return strings.Join(names, " ")
}
