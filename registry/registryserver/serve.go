package registryserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// What Serve grants a connection. Requests are small and answered from memory,
// so whoever takes longer is stuck, or up to something.
const (
	headerTimeout = 10 * time.Second // until the header of a request has been read
	readTimeout   = 30 * time.Second // until all of it has been read
	writeTimeout  = time.Minute      // until it has been answered, also on a slow line
	idleTimeout   = 3 * time.Minute  // longer than clients pause between renewals or polls
	maxHeader     = 1 << 20          // bytes; more is answered with 431
	shutdownGrace = time.Second      // for requests under way when Serve ends
)

// Serve answers requests that come in on lis until ctx ends or Close is called;
// then it closes lis and idle connections at once, gives requests that are under
// way one second, and returns nil. It returns an error, with everything
// closed, when lis fails, and registry.ErrClosed after Close.
//
// Without WithAdvertise the first Serve makes /api/nodes tell the address of
// lis; for a wildcard one the address that this machine's traffic leaves from.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	if !s.begin() {
		_ = lis.Close()
		return fmt.Errorf("registryserver: serve %s: %w", lis.Addr(), registry.ErrClosed)
	}
	defer s.work.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if addr := dialable(lis.Addr()); addr != "" {
		s.announce(addr)
	}

	srv := s.httpServer()
	failed := make(chan error, 1)
	s.work.Go(func() { failed <- srv.Serve(lis) })
	select {
	case err := <-failed:
		_ = srv.Close()
		return fmt.Errorf("registryserver: serve %s: %w", lis.Addr(), err)
	case <-ctx.Done():
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer stop()
	if srv.Shutdown(ctx) != nil { // the grace is over
		_ = srv.Close()
	}
	<-failed
	return nil
}

// begin makes Close wait for the caller, unless that has begun.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Add(1)
	return true
}

// httpServer has every limit set.
func (s *Server) httpServer() *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.logger.Handler(), slog.LevelDebug),
	}
}

// dialable is the host:port under which others reach a listener on addr, or
// empty if it has none.
func dialable(addr net.Addr) string {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return ""
	}
	if at.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(outgoing(), at.Port())
	}
	return at.String()
}

// outgoing is the address this machine's traffic leaves from, or the loopback's
// if it is not connected to anything.
func outgoing() netip.Addr {
	// Addresses kept for documentation: any that are not local do, and
	// connecting UDP sends nothing.
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", far)
		if err != nil {
			continue
		}
		local, err := netip.ParseAddrPort(conn.LocalAddr().String())
		_ = conn.Close()
		if err == nil {
			return local.Addr()
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
