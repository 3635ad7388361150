package testenv

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
)

// Server is one process that serves Echo on a real grpc.Server.
type Server struct {
	*Echo
	// Addr is where it listens.
	Addr string

	sys     *System
	opts    []grpc.ServerOption
	grpc    *grpc.Server
	serving sync.WaitGroup
	client  *memory.Registry      // its own, as every process has one
	lease   registry.Registration // nil while it is not registered
	inst    registry.Instance
}

// Start starts a server process and registers it. What inst leaves out is
// filled in: the Service, a Life of its own, and a free address.
func (s *System) Start(inst registry.Instance, opts ...grpc.ServerOption) *Server {
	s.t.Helper()
	server := s.Listen(inst, opts...)
	server.Register()
	return server
}

// Listen is Start without registering.
func (s *System) Listen(inst registry.Instance, opts ...grpc.ServerOption) *Server {
	s.t.Helper()
	if inst.Service == "" {
		inst.Service = Service
	}
	if inst.Life == "" {
		inst.Life = s.life(inst.ID)
	}
	if len(inst.Addrs) == 0 {
		inst.Addrs = []string{s.Addr()}
	}
	server := &Server{
		Echo: NewEcho(inst.ID), Addr: inst.Addrs[0],
		sys: s, opts: opts, grpc: grpc.NewServer(opts...), client: s.store.Client(), inst: inst,
	}
	echov1.RegisterEchoServer(server.grpc, server.Echo)
	for _, addr := range inst.Addrs {
		lis, err := s.Network.Listen(addr)
		if err != nil {
			s.t.Fatal(err)
		}
		server.serving.Go(func() { server.grpc.Serve(lis) })
	}
	s.t.Cleanup(server.cleanup)
	return server
}

func (s *Server) cleanup() {
	s.grpc.Stop()
	s.serving.Wait()
	s.client.Close()
}

// Instance returns the server as it is, or would be, registered.
func (s *Server) Instance() registry.Instance {
	if s.lease != nil {
		return s.lease.Instance()
	}
	return s.inst.Clone()
}

// Register puts the server into the registry.
func (s *Server) Register() {
	s.sys.t.Helper()
	lease, err := s.client.Register(context.Background(), s.inst)
	if err != nil {
		s.sys.t.Fatalf("testenv: %v", err)
	}
	s.lease = lease
}

// Update changes what is registered: its weight, its status and so on.
func (s *Server) Update(change func(*registry.Instance)) {
	s.sys.t.Helper()
	inst := s.Instance()
	change(&inst)
	if err := s.lease.Update(context.Background(), inst); err != nil {
		s.sys.t.Fatalf("testenv: %v", err)
	}
}

// Deregister takes the server out of the registry; it goes on serving. After
// Kill it is what the expiry of the lease does.
func (s *Server) Deregister() {
	s.sys.t.Helper()
	if err := s.lease.Deregister(context.Background()); err != nil {
		s.sys.t.Errorf("testenv: %v", err)
	}
}

// Stop stops gracefully: GOAWAY to the clients, and calls in hand are finished.
// It does not deregister.
func (s *Server) Stop() {
	s.grpc.GracefulStop()
	s.serving.Wait()
}

// Kill is SIGKILL: connections break, nothing is said, and the registry learns
// nothing. Handlers that run see their context end. A handler may call it.
func (s *Server) Kill() {
	for _, addr := range s.inst.Addrs {
		s.sys.Network.Kill(addr)
	}
	s.grpc.Stop()
}

// Restart starts the server again, at the same address unless change gives
// another, as a new process: with a new Life and counters from 0. The old one
// has been stopped or killed.
func (s *Server) Restart(change ...func(*registry.Instance)) *Server {
	s.sys.t.Helper()
	inst := s.Instance()
	inst.Life = ""
	for _, c := range change {
		c(&inst)
	}
	return s.sys.Start(inst, s.opts...)
}
