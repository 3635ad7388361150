package registrar

import (
	"fmt"
	"net/http"
)

// ReadyHandler returns the readiness endpoint for a supervisor that asks over
// HTTP: 200 while the server is registered and not drained, or with
// WithRegisterInBackground while it serves; 503 before and from the first moment
// of draining. The body is the state. Over gRPC the health service says the same.
//
// It is no liveness endpoint: a server that drains must not be killed for it.
func (r *Registrar) ReadyHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if r.wanted.Err() != nil || !r.health.callable() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, r.State())
	})
}
