package registrar

import (
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// healthSwitch sets the health of everything that the server serves: SERVING
// when the server is ready and not held back. Without a server it does nothing.
type healthSwitch struct {
	mu     sync.Mutex // guards all below; the health server is called under it, and calls nobody
	server *health.Server
	names  []string
	ready  bool
	held   bool // by Drain
}

// add puts the switch on a server that does not serve yet, to which it adds a
// health service where that is wanted and missing. To add a second one, or one
// to a server that is serving, ends the process.
func (h *healthSwitch) add(o options, service string, srv *grpc.Server) {
	_, has := srv.GetServiceInfo()[healthpb.Health_ServiceDesc.ServiceName]
	server := o.health
	if server == nil && !has && !o.noHealth {
		server = health.NewServer()
	}
	if server != nil && !has {
		healthpb.RegisterHealthServer(srv, server)
	}
	h.connect(server, service, srv)
}

// connect puts the switch on what the servers serve.
func (h *healthSwitch) connect(server *health.Server, service string, servers ...*grpc.Server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.server, h.names = server, []string{"", service}
	for _, srv := range servers {
		for name := range srv.GetServiceInfo() {
			h.names = append(h.names, name)
		}
	}
	h.set()
}

// setReady says that the server can be called.
func (h *healthSwitch) setReady() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = true
	h.set()
}

// hold says whether the server should not be called, ready or not.
func (h *healthSwitch) hold(held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = held
	h.set()
}

// set needs mu.
func (h *healthSwitch) set() {
	if h.server == nil {
		return
	}
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if h.ready && !h.held {
		status = healthpb.HealthCheckResponse_SERVING
	}
	for _, name := range h.names {
		h.server.SetServingStatus(name, status)
	}
}

// callable says whether the server is ready and not held back.
func (h *healthSwitch) callable() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ready && !h.held
}

// shutdown says NOT_SERVING for good.
func (h *healthSwitch) shutdown() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server != nil {
		h.server.Shutdown()
	}
}
