package registrar_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registrar"
)

func TestReadyHandler(t *testing.T) {
	for _, background := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			var opts []registrar.Option
			if background {
				opts = append(opts, registrar.WithRegisterInBackground())
			}
			r := newRig(t, opts...)
			r.conn(nil).Connect()
			r.reg.set(nil, time.Second)
			is := func(ready bool, state registrar.State) {
				t.Helper()
				w := httptest.NewRecorder()
				r.ReadyHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ready", nil))
				if got := strings.TrimSpace(w.Body.String()); (w.Code == http.StatusOK) != ready || got != state.String() {
					t.Errorf("%d, %q; want ready %v, %q", w.Code, got, ready, state)
				}
			}
			is(false, registrar.StateStarting)
			r.serve()
			is(background, registrar.StateListening)
			time.Sleep(time.Second)
			synctest.Wait()
			is(true, registrar.StateRegistered)
			if err := r.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			is(false, registrar.StateRegistered)
			if err := r.Resume(t.Context()); err != nil {
				t.Error(err)
			}
			is(true, registrar.StateRegistered)
			r.cancel()
			synctest.Wait()
			is(false, registrar.StateDraining)
			r.wantResult(nil)
			is(false, registrar.StateStopped)
		})
	}
}
