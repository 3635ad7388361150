package registryserver

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// discard is a ResponseWriter that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// bench posts the body again and again.
func bench(b *testing.B, s *Server, path, body string) {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, path, nil)
	if err != nil {
		b.Fatal(err)
	}
	reader := strings.NewReader(body)
	w := discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		req.Body = readCloser{reader}
		s.ServeHTTP(w, req)
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// populated returns a server with n instances of "app".
func populated(b *testing.B, n int) *Server {
	b.Helper()
	s := newServer(b)
	for i := range n {
		register(b, s, "app", fmt.Sprintf("10.0.0.%d:9000-4fd2", i))
	}
	return s
}

func BenchmarkFetch(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10000} {
		b.Run(fmt.Sprint("instances=", n), func(b *testing.B) {
			bench(b, populated(b, n), wire.PathFetch, `{"env":"dev","appid":"app","status":3}`)
		})
	}
}

func BenchmarkFetchAll(b *testing.B) {
	bench(b, populated(b, 1000), wire.PathFetchAll, ``)
}

func BenchmarkRenew(b *testing.B) {
	bench(b, populated(b, 1000), wire.PathRenew, request("app", "10.0.0.500:9000-4fd2"))
}

func BenchmarkRegister(b *testing.B) {
	bench(b, populated(b, 1000), wire.PathRegister, request("app", "10.0.0.500:9000-4fd2", `,"addrs":["grpc://10.0.0.1:9000?weight=10"],"status":1`))
}

// BenchmarkFirstRegister fills an app with 10,000 instances.
func BenchmarkFirstRegister(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		populated(b, 10000)
	}
}
