package registrar_test

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
)

// serveAt serves something else in the rig's network.
func (r *rig) serveAt(addr string, srv *grpc.Server) {
	r.t.Helper()
	lis, err := r.network.Listen(addr)
	if err != nil {
		r.t.Fatal(err)
	}
	go srv.Serve(lis)
	r.t.Cleanup(srv.Stop)
}

// Who does not reach itself at the address that it advertises is not registered,
// or warns, as it was told.
func TestSelfProbe(t *testing.T) {
	const elsewhere = "10.0.0.2:9000"
	tests := map[string]struct {
		advertise string
		at        func(r *rig) // what is elsewhere
		want      string       // part of the error; empty if all is well
	}{
		"itself": {addr, nil, ""},
		"nobody": {elsewhere, nil, "connection refused"},
		"another process of the service": {elsewhere, func(r *rig) {
			other := registrar.New(r.reg, registry.Instance{Service: service, ID: "other"})
			srv := grpc.NewServer(other.ServerOptions()...)
			healthpb.RegisterHealthServer(srv, health.NewServer())
			r.serveAt(elsewhere, srv)
		}, "another process answers: id=other"},
		"any gRPC server": {elsewhere, func(r *rig) {
			srv := grpc.NewServer()
			healthpb.RegisterHealthServer(srv, health.NewServer())
			r.serveAt(elsewhere, srv)
		}, "some gRPC server answers"},
		"a server without health": {elsewhere, func(r *rig) { r.serveAt(elsewhere, grpc.NewServer()) }, "has no health service"},
	}
	for name, test := range tests {
		for _, mode := range []registrar.ProbeMode{registrar.ProbeRequire, registrar.ProbeWarn, registrar.ProbeOff} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					var r *rig
					dial := func(ctx context.Context, addr string) (net.Conn, error) { return r.network.Dial(ctx, addr) }
					var log strings.Builder // read when nobody writes any more
					r = newRig(t, registrar.WithAdvertise(test.advertise), registrar.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
						registrar.WithSelfProbe(mode, grpc.WithContextDialer(dial)))
					if test.at != nil {
						test.at(r)
					}
					r.serve()
					time.Sleep(time.Minute)
					asked, _ := r.reg.count()
					if refused := mode == registrar.ProbeRequire && test.want != ""; refused {
						if err := <-r.result; err == nil || !strings.Contains(err.Error(), test.want) || asked > 0 {
							t.Errorf("Serve returned %v, registered %d times; want an error with %q", err, asked, test.want)
						}
						return
					}
					if r.State() != registrar.StateRegistered {
						t.Errorf("state %v", r.State())
					}
					r.cancel()
					r.wantResult(nil)
					warned := strings.Contains(log.String(), "may not be this server")
					if want := mode == registrar.ProbeWarn && test.want != ""; warned != want || want && !strings.Contains(log.String(), test.want) {
						t.Errorf("warned: %v, want %v with %q: %s", warned, want, test.want, log.String())
					}
				})
			})
		}
	}
}

// A server that cannot be reached yet is registered when it can.
func TestSelfProbeIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const front = "10.0.0.9:9000"
		var r *rig
		opened := time.Now().Add(4 * time.Second)
		dial := func(ctx context.Context, addr string) (net.Conn, error) {
			if addr != front || time.Now().Before(opened) {
				return nil, errDown
			}
			return r.network.Dial(ctx, r.lis.Addr().String())
		}
		r = newRig(t, registrar.WithAdvertise(front), registrar.WithRegisterInBackground(), registrar.WithSelfProbe(registrar.ProbeRequire, grpc.WithContextDialer(dial)))
		r.serve()
		if r.State() != registrar.StateListening {
			t.Errorf("state %v", r.State())
		}
		time.Sleep(time.Minute)
		if r.State() != registrar.StateRegistered {
			t.Errorf("state %v", r.State())
		}
	})
}

// The probe sees who answers through TLS, and through an interceptor that lets
// nobody in.
func TestSelfProbeThroughTLSAndAuthentication(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var r *rig
		dial := func(ctx context.Context, addr string) (net.Conn, error) { return r.network.Dial(ctx, addr) }
		r = newRig(t)
		r.Registrar = registrar.New(r.reg, registry.Instance{Service: service, TLS: true},
			registrar.WithSelfProbe(registrar.ProbeRequire, grpc.WithContextDialer(dial)))
		t.Cleanup(r.Stop)
		nobody := func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return nil, status.Error(codes.Unauthenticated, "who are you?")
		}
		r.server = grpc.NewServer(append(r.ServerOptions(), grpc.Creds(selfSigned(t)), grpc.ChainUnaryInterceptor(nobody))...)
		r.serve()
		if r.State() != registrar.StateRegistered {
			t.Errorf("state %v", r.State())
			r.Stop()
			t.Error(<-r.result)
		}
	})
}

func selfSigned(t *testing.T) credentials.TransportCredentials {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: private})
}

// By default a server on a socket looks whether it is reached.
func TestSelfProbeByDefault(t *testing.T) {
	for _, test := range []struct {
		advertise string
		want      string
	}{
		{"", "this server answers at its advertised addresses"},
		{"127.0.0.1:1", "may not be this server"},
	} {
		said := make(logChannel, 100)
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		reg := memory.New()
		r := registrar.New(reg, registry.Instance{Service: service}, registrar.WithAdvertise(test.advertise), registrar.WithDrainDelay(0),
			registrar.WithLogger(slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug}))))
		result := make(chan error)
		go func() { result <- r.Serve(t.Context(), grpc.NewServer(r.ServerOptions()...), lis) }()
		for line := range said {
			if strings.Contains(line, test.want) {
				break
			}
			if strings.Contains(line, "advertised addresses") || strings.Contains(line, "may not be") {
				t.Errorf("it said %s, want %s", line, test.want)
				break
			}
		}
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-result
		reg.Close()
	}
}

// logChannel hands on what is logged.
type logChannel chan string

func (c logChannel) Write(line []byte) (int, error) {
	select {
	case c <- string(line):
	default:
	}
	return len(line), nil
}
