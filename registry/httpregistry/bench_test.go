package httpregistry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
	"github.com/rollcall-go/rollcall/registry/registryserver"
)

// What one poll of a service costs the client, from the body to the verdict.
func BenchmarkPoll(b *testing.B) {
	for _, size := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			node, err := registryserver.New()
			if err != nil {
				b.Fatal(err)
			}
			defer node.Close()
			f := &fakeNode{Server: node}
			for i := range size {
				inst := instance("s", i)
				inst.Addrs, inst.Weight, inst.Zone = []string{fmt.Sprintf("10.%d.%d.1:9000", i/250, i%250)}, 10, "a"
				f.put(inst)
			}
			rec := httptest.NewRecorder()
			node.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, wire.PathFetch, bytes.NewReader([]byte(`{"env":"dev","appid":"s","status":3}`))))
			body := rec.Body.Bytes()
			c := &Client{config: defaults()}
			know := belief{lease: c.lease}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := c.read(&http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))})
				if err != nil {
					b.Fatal(err)
				}
				entries, strange, err := instancesOf(r.Data)
				if err != nil {
					b.Fatal(err)
				}
				a := newAnswer("n", "dev", "s", entries, strange)
				if v := know.judge(epoch, []answer{a}); len(v.instances) != size {
					b.Fatal(len(v.instances))
				}
			}
		})
	}
}
