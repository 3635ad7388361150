package httpregistry

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// What was deregistered does not come back, whatever was under way: beats, checks,
// updates and the nodes' own word to each other, which is late and may be lost.
func TestNothingComesBack(t *testing.T) {
	for i := range 40 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				nodes := n.lazyNodes()
				for k, node := range nodes {
					node.gossip(append(nodes[:k:k], nodes[k+1:]...))
				}
				c := n.client(three)
				inst := instance("s", 1)
				inst.Weight = 1
				r := mustRegister(t, c, inst)
				for range rand.IntN(30) {
					pass(rand.N(time.Minute))
					switch rand.IntN(3) {
					case 0:
						nodes[rand.IntN(3)].drop("s", "i1")
					case 1:
						inst.Weight = rand.Uint32N(100) + 1
						update := inst
						go r.Update(t.Context(), update)
					}
				}
				time.Sleep(rand.N(200 * time.Millisecond)) // an update may be under way
				if err := r.Deregister(t.Context()); err != nil {
					t.Error(err)
				}
				for range 10 {
					pass(time.Minute)
					if got := n.shown(); got[0]+got[1]+got[2] > 0 {
						t.Errorf("%v after the end the nodes show it with the weights %v", time.Minute, got)
					}
				}
			})
		})
	}
}

// gossip lets the node answer after a while, and pass on what it was told.
func (f *fakeNode) gossip(others []*fakeNode) {
	for _, path := range []string{wire.PathRegister, wire.PathRenew, wire.PathCancel, wire.PathFetch} {
		f.answer(path, func(w http.ResponseWriter, r *http.Request) {
			var body bytes.Buffer
			body.ReadFrom(r.Body)
			time.Sleep(rand.N(50 * time.Millisecond))
			answer := httptest.NewRecorder()
			f.Server.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body.Bytes())))
			if path != wire.PathFetch && !bytes.Contains(answer.Body.Bytes(), []byte(`"code":404`)) {
				for _, other := range others {
					if late := rand.N(100 * time.Millisecond); late > 10*time.Millisecond { // the others are lost
						time.AfterFunc(late, func() {
							other.Server.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body.Bytes())))
						})
					}
				}
			}
			w.Header().Set("Content-Type", "application/json")
			w.Write(answer.Body.Bytes())
		})
	}
}
