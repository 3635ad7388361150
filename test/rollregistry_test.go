package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The registry is of no help while every server is restarted.
func TestRollWithABadRegistryLosesNoCall(t *testing.T) {
	for _, test := range []struct {
		name string
		bad  func(t *testing.T, registry *url.URL) http.Handler
		// newPorts is the drain delay with which servers may come back elsewhere: at
		// least as long as the registry is behind.
		newPorts time.Duration
	}{
		{"answers 30 s late", answersLate, 0},
		{"shows what was a minute ago", showsThePast, 65 * time.Second},
		{"is down", isDown, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			besideOthers(t)
			_, registry := startRegistry(t, "127.0.0.1:0")
			addr := &url.URL{Scheme: "http", Host: registry}
			var bad atomic.Pointer[http.Handler] // nil while the registry is good
			good := httputil.NewSingleHostReverseProxy(addr)
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch handler := bad.Load(); {
				case r.URL.Path == "/api/nodes": // it would tell a way round this one
					fmt.Fprint(w, `{"code":404,"message":"no nodes"}`)
				case handler != nil:
					(*handler).ServeHTTP(w, r)
				default:
					good.ServeHTTP(w, r)
				}
			}))
			t.Cleanup(front.Close)
			r := startRoll(t, front.Listener.Addr().String(), within(50., 1000.), "-register-in-background")
			handler := test.bad(t, addr)
			bad.Store(&handler)
			// While the registry does not show the successor, our clients call it only
			// if nobody else is left: what they know is that it said it closes.
			for range within(1, 3) {
				r.restartEach(true, "put")
			}
			if *soak && test.newPorts > 0 {
				r.args = append(r.args, "-drain-delay", arg(test.newPorts))
				r.restartEach(true, "put") // the delay is that of the server that goes
				r.restartEach(false)
			}
			r.check()
		})
	}
}

// answersLate does what it is asked, after everybody has stopped waiting for it.
func answersLate(_ *testing.T, registry *url.URL) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(registry)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case <-time.After(30 * time.Second):
			proxy.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
		case <-r.Context().Done():
		}
	})
}

// showsThePast takes what it is told and shows the service as it was a minute ago,
// or is now if that is later.
func showsThePast(t *testing.T, registry *url.URL) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(registry)
	past := &past{registry: registry}
	if err := past.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	var watching sync.WaitGroup
	watching.Go(func() { past.watch(t.Context()) })
	t.Cleanup(watching.Wait)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/fetch" {
			proxy.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(past.at(time.Now().Add(-time.Minute)))
	})
}

// past is what the registry has shown of the service echo.
type past struct {
	registry *url.URL
	mu       sync.Mutex // guards views
	views    []view
}

type view struct {
	at   time.Time
	text []byte
}

func (p *past) watch(ctx context.Context) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			_ = p.look(ctx) // what it does not see it cannot show
		case <-ctx.Done():
			return
		}
	}
}

func (p *past) look(ctx context.Context) error {
	body := strings.NewReader(`{"env":"dev","appid":"echo","status":3}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.registry.String()+"/api/fetch", body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.views = append(p.views, view{time.Now(), text})
	return nil
}

// at is the last view before then, or the first there is.
func (p *past) at(then time.Time) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.views[0].text
	for _, v := range p.views {
		if v.at.After(then) {
			break
		}
		text = v.text
	}
	return text
}

// isDown breaks every connection.
func isDown(*testing.T, *url.URL) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}
