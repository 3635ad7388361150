// Package registryserver is the embedded registry: a server of the
// service_discovery HTTP API, in memory, as one node, with nothing but the
// standard library. Any client of that API can use it.
//
// It answers exactly as other servers of the API do, but for what they let any
// client break:
//
//   - The app of the registry's own nodes is the node's alone: to register, renew
//     or cancel in it is answered with code 400.
//   - App "a" of env "b-c" and app "a-b" of env "c" are two, not one.
//   - A dirtytimestamp or latesttimestamp that lies in the future counts as not
//     given. It cannot freeze an instance or make an app unreadable.
//   - Registering is atomic: what was answered with success is there.
//   - Instances come in a stable order, by hostname.
//   - Requests have a size limit and deadlines.
//
// Everything is lost when the process ends; clients register again.
package registryserver

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// Server is a registry node. It is an http.Handler; Serve runs it with limits
// that suit it.
type Server struct {
	cfg     config
	store   *store
	buffers sync.Pool // of *[]byte, what answers are built in

	announced sync.Once
	ctx       context.Context // ends at Close
	cancel    context.CancelFunc

	mu     sync.Mutex // guards closed, so that work is not added once Close waits; nothing is called under it
	closed bool
	work   sync.WaitGroup
}

var _ http.Handler = (*Server)(nil)

// New returns a running node: it drops silent instances from now on, until
// Close. The error says which option is wrong.
func New(opts ...Option) (*Server, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, store: newStore()}
	s.buffers.New = func() any { return new([]byte) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if cfg.advertise != "" {
		s.announce(cfg.advertise)
	}
	s.work.Go(func() { s.keepTime(s.ctx) })
	return s, nil
}

// Close ends every Serve and expiry, and waits for both. What is registered can
// still be read and written through ServeHTTP. It may be called again.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
	return nil
}

// announce registers the node itself, the first time it is called.
func (s *Server) announce(addr string) {
	s.announced.Do(func() {
		now := time.Now()
		s.store.register(registration{
			RegisterRequest: wire.RegisterRequest{
				Identity: s.self(),
				Addrs:    []string{"http://" + addr},
				Status:   statusUp,
			},
			latest: now.UnixNano(), // unlike other apps', the counter of this one is a time
		}, now)
	})
}

func (s *Server) self() wire.Identity {
	return wire.Identity{Env: s.cfg.env, AppID: wire.NodeService, Hostname: s.cfg.nodeName}
}

// identity is how an instance is named in logs.
func identity(id wire.Identity) []slog.Attr {
	return []slog.Attr{slog.String("service", id.AppID), slog.String("env", id.Env), slog.String("id", id.Hostname)}
}
