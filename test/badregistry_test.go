package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// badRegistries are ways in which what answers at the registry's address is no
// registry.
var badRegistries = map[string]http.HandlerFunc{
	"HTML": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><body>Welcome to nginx!</body></html>")
	},
	"garbage JSON": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"code":200,"data":[[{"instances":`)
	},
	"100 MB": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"code":200,"message":"`)
		_, _ = io.CopyN(w, zeros{}, 100<<20)
		fmt.Fprint(w, `"}`)
	},
	"redirects": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	},
	"half an answer": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, `{"code":200,"data":`)
		panic(http.ErrAbortHandler)
	},
	"nothing at all": func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	},
	"500": func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	},
}

// zeros is an endless text of noughts.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// A registry that answers nonsense takes no client down: calls fail with the
// reason, and work again when the registry does. A server gives up in time.
func TestBadRegistry(t *testing.T) {
	for name, bad := range badRegistries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, good := startRegistry(t, "127.0.0.1:0")
			var healed atomic.Bool
			proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: good})
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if healed.Load() {
					proxy.ServeHTTP(w, r)
					return
				}
				_, _ = io.Copy(io.Discard, r.Body) // or a client that goes away is not noticed
				bad(w, r)
			}))
			t.Cleanup(front.Close)
			addr := front.Listener.Addr().String()
			startServer(t, good, "a")

			client := startClient(t, addr, "-rps", "20", "-duration", "0")
			late := start(t, "late", "echo-server", "-registry", addr, "-register-timeout", "2s")
			if code := ended(t, late, patience); code != 1 {
				t.Errorf("echo-server exited with %d, want 1", code)
			}
			if out := late.Output(); !strings.Contains(out, addr) {
				t.Errorf("echo-server does not name the registry %s: %s", addr, out)
			}
			said(t, client, "failed: Unavailable: ")
			healed.Store(true)
			said(t, client, "  a 100.0%")
			r := interrupt(t, client)
			if r.Failed == 0 || r.Errors["Unavailable"]+r.Errors["DeadlineExceeded"] != r.Failed {
				t.Errorf("errors %v, want Unavailable, or DeadlineExceeded before anything is known", r.Errors)
			}
			r.says(t, "no registry node answers", addr)
		})
	}
}

// What does not speak HTTP at all.
func TestRegistryThatIsNoHTTPServer(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "SSH-2.0-OpenSSH_9.6\r\n")
			conn.Close()
		}
	}()
	r := finish(t, startClient(t, lis.Addr().String(), "-rps", "20", "-duration", "1s"))
	if r.Failed != r.Calls || r.Errors["Unavailable"]+r.Errors["DeadlineExceeded"] != r.Calls {
		t.Errorf("%+v: want every call to fail", r)
	}
	r.says(t, "no registry node answers", lis.Addr().String())
}
