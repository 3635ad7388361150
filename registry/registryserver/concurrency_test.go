package registryserver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// TestAcknowledgedIsVisible: many clients come and go in few apps, so that apps
// appear and vanish all the time, and each sees its own changes at once.
func TestAcknowledgedIsVisible(t *testing.T) {
	const clients, rounds, apps = 16, 50, 4
	s := newServer(t)
	var work sync.WaitGroup
	for client := range clients {
		work.Go(func() {
			app, id := fmt.Sprint("app", client%apps), fmt.Sprint("h", client)
			registered := func() bool {
				return slices.ContainsFunc(fetch(t, s, app).Instances, func(i wire.Instance) bool { return i.Hostname == id })
			}
			for range rounds {
				register(t, s, app, id)
				if !registered() {
					t.Errorf("%s of %s is not there after it was registered", id, app)
				}
				expect(t, s, wire.PathRenew, request(app, id), renewOK)
				expect(t, s, wire.PathCancel, request(app, id), cancelOK)
				if registered() {
					t.Errorf("%s of %s is there after it was cancelled", id, app)
				}
				if all := post(t, s, wire.PathFetchAll, ""); strings.Contains(all, fmt.Sprintf("%q:%q", "hostname", id)) {
					t.Errorf("%s of %s is in fetchall after it was cancelled", id, app)
				}
			}
		})
	}
	work.Wait()
	if s.store.total != 1 || len(s.store.buckets) != 1 {
		t.Errorf("%d instances in %d buckets are left, want the node's own", s.store.total, len(s.store.buckets))
	}
}

// TestConcurrentExpiry: expiry runs among everything else.
func TestConcurrentExpiry(t *testing.T) {
	const clients, rounds = 8, 100
	s := newServer(t)
	var work sync.WaitGroup
	for client := range clients {
		work.Go(func() {
			id := fmt.Sprint("h", client)
			for range rounds {
				register(t, s, "app", id)
				post(t, s, wire.PathRenew, request("app", id)) // 200, or 404 if it has just expired
				fetch(t, s, "app")
			}
		})
	}
	work.Go(func() {
		for range rounds {
			s.store.expire(time.Now().Add(2*DefaultExpiry().HardLease), DefaultExpiry())
		}
	})
	work.Wait()
}

// TestManyConnections registers over real connections at once and looks at all.
func TestManyConnections(t *testing.T) {
	const clients = 50
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, lis)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	var work sync.WaitGroup
	for i := range clients {
		work.Go(func() {
			body := request("app", fmt.Sprint("h", i), `,"status":1`)
			req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+lis.Addr().String()+wire.PathRegister, strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
		})
	}
	work.Wait()
	got, err := roundTrip(func() (net.Conn, error) { return net.Dial("tcp", lis.Addr().String()) }, "POST",
		"POST /api/fetch HTTP/1.1\r\nHost: r\r\nContent-Length: 38\r\n\r\n"+`{"env":"dev","appid":"app","status":1}`)
	if n := strings.Count(string(got.body), `"hostname":"h`); err != nil || n != clients {
		t.Errorf("%d of %d registered instances are there, %v", n, clients, err)
	}
}
