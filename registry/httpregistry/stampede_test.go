package httpregistry

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
	"github.com/rollcall-go/rollcall/registry/registryserver"
)

// Ten thousand processes that find themselves forgotten are back within a heartbeat,
// and do not come in one moment; nor does what they do to be certain of it.
func TestNoStampedeAfterARestart(t *testing.T) {
	for gone, count := range map[time.Duration]int{0: 1000, 2 * time.Minute: 10000, 10 * time.Minute: 1000} {
		if raceDetector {
			count = min(count, 1000) // it takes half a megabyte for each
		}
		t.Run(fmt.Sprint(count, " after ", gone), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				counter := &requestCounter{}
				counter.restart(t)
				clients := make([]*Client, count)
				var working sync.WaitGroup
				for i := range clients {
					c, err := New(three[:1], WithHTTPClient(&http.Client{Transport: counter}))
					if err != nil {
						t.Fatal(err)
					}
					clients[i] = c
					working.Go(func() {
						mustRegister(t, c, registry.Instance{Service: fmt.Sprint("s", i/4), ID: fmt.Sprint(i), Addrs: []string{fmt.Sprintf("h%d:1", i)}})
					})
				}
				working.Wait()
				pass(40 * time.Second)
				counter.stop()
				pass(gone)
				counter.restart(t)
				pass(30 * time.Second)
				if back := counter.registered(); back != count {
					t.Errorf("%d of %d are back after one heartbeat", back, count)
				}
				pass(30 * time.Second)
				for _, path := range []string{wire.PathRenew, wire.PathRegister, wire.PathFetch} {
					for second, requests := range counter.perSecond[path] {
						if requests > count/4 { // each renews twice, before and after
							t.Errorf("%d requests to %s in second %d", requests, path, second)
						}
					}
				}
				for _, c := range clients {
					working.Go(func() { c.Close() })
				}
				working.Wait()
			})
		})
	}
}

// requestCounter is a registry, and the network to it.
type requestCounter struct {
	mu        sync.Mutex
	node      *registryserver.Server // nil: nobody answers
	began     time.Time
	perSecond map[string]map[int]int // by path and second since it began
}

func (c *requestCounter) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.node = nil
}

// restart begins with an empty registry.
func (c *requestCounter) restart(t *testing.T) {
	node, err := registryserver.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	c.mu.Lock()
	defer c.mu.Unlock()
	c.node, c.began, c.perSecond = node, time.Now(), map[string]map[int]int{}
}

// registered counts the instances, without those of the node itself.
func (c *requestCounter) registered() int {
	answer := httptest.NewRecorder()
	c.node.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, wire.PathFetchAll, strings.NewReader("{}")))
	return bytes.Count(answer.Body.Bytes(), []byte(`"appid":"s`))
}

func (c *requestCounter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	node, seconds := c.node, int(time.Since(c.began).Seconds())
	if c.perSecond[r.URL.Path] == nil {
		c.perSecond[r.URL.Path] = map[int]int{}
	}
	c.perSecond[r.URL.Path][seconds]++
	c.mu.Unlock()
	if node == nil {
		return nil, syscall.ECONNREFUSED
	}
	answer := httptest.NewRecorder()
	node.ServeHTTP(answer, r)
	return answer.Result(), nil
}
