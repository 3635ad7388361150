package registrar

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
)

// healthSwitch sets the health of everything that the server serves. The zero
// value does nothing.
type healthSwitch struct {
	server *health.Server
	names  []string
}

// newHealth returns the switch for a server that does not serve yet, to which it
// adds a health service where that is wanted and missing. To add a second one,
// or one to a server that is serving, ends the process.
func newHealth(o options, service string, srv *grpc.Server) healthSwitch {
	_, has := srv.GetServiceInfo()[healthpb.Health_ServiceDesc.ServiceName]
	server := o.health
	if server == nil && !has && !o.noHealth {
		server = health.NewServer()
	}
	if server != nil && !has {
		healthpb.RegisterHealthServer(srv, server)
	}
	return newSwitch(server, service, srv)
}

// newSwitch returns the switch for what the servers serve.
func newSwitch(server *health.Server, service string, servers ...*grpc.Server) healthSwitch {
	h := healthSwitch{server: server, names: []string{"", service}}
	for _, srv := range servers {
		for name := range srv.GetServiceInfo() {
			h.names = append(h.names, name)
		}
	}
	h.set(notServing)
	return h
}

func (h healthSwitch) set(status healthpb.HealthCheckResponse_ServingStatus) {
	if h.server == nil {
		return
	}
	for _, name := range h.names {
		h.server.SetServingStatus(name, status)
	}
}

// shutdown says NOT_SERVING for good.
func (h healthSwitch) shutdown() {
	if h.server != nil {
		h.server.Shutdown()
	}
}
