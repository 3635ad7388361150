package resolver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/registry"
)

// authorityOf makes a call and returns the :authority that the server saw.
func authorityOf(t *testing.T, server *testenv.Server, conn *grpc.ClientConn) string {
	t.Helper()
	var seen []string
	server.OnCall(func(ctx context.Context, _ string) error {
		md, _ := metadata.FromIncomingContext(ctx)
		seen = md[":authority"]
		return nil
	})
	expectCall(t, conn)
	if len(seen) != 1 {
		t.Fatalf("the server saw the authority %q", seen)
	}
	return seen[0]
}

func TestAuthority(t *testing.T) {
	for _, test := range []struct {
		name, service, target string
		opts                  []Option
		dial                  []grpc.DialOption
		want                  string
	}{
		{name: "the service", service: "greeter", target: "discovery:///greeter", want: "greeter"},
		{name: "the service, encoded", service: "Team/grüßer", target: "discovery:Team%2Fgr%C3%BC%C3%9Fer?zone=a", want: "Team%2Fgr%C3%BC%C3%9Fer"},
		{name: "the target's", service: "greeter", target: "discovery:///greeter?authority=greeter.prod:443", want: "greeter.prod:443"},
		{
			name: "the instance's", service: "greeter", target: "discovery:///greeter?authority=greeter.prod",
			opts: []Option{WithServerName(func(i registry.Instance) string { return i.ID + ".prod" })}, want: "one.prod",
		},
		{
			name: "an instance without one", service: "greeter", target: "discovery:///greeter?authority=greeter.prod",
			opts: []Option{WithServerName(func(registry.Instance) string { return "" })}, want: "greeter.prod",
		},
		{
			name: "the dial option", service: "greeter", target: "discovery:///greeter?authority=greeter.prod",
			opts: []Option{WithServerName(func(i registry.Instance) string { return i.ID + ".prod" })},
			dial: []grpc.DialOption{grpc.WithAuthority("mine")}, want: "mine",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys := testenv.New(t)
				server := sys.Start(registry.Instance{Service: test.service, ID: "one", Zone: "a"})
				conn := sys.Dial(test.target, append(test.dial, grpc.WithResolvers(NewBuilder(sys.Registry, test.opts...)))...)
				if got := authorityOf(t, server, conn); got != test.want {
					t.Errorf("the server saw the authority %q, want %q", got, test.want)
				}
			})
		})
	}
}

// With TLS the same name is what the server's certificate must be for.
func TestTLS(t *testing.T) {
	ownName := WithServerName(func(i registry.Instance) string { return i.ID + ".prod" })
	for _, test := range []struct {
		name, target string
		opts         []Option
		want         string // the :authority the server sees, or
		wantErr      string
	}{
		{name: "the service is not in the certificate", target: "discovery:///echo", wantErr: "not echo"},
		{name: "the target's authority", target: "discovery:///echo?authority=all.prod", want: "all.prod"},
		{name: "the target's authority with a port", target: "discovery:///echo?authority=all.prod:443", want: "all.prod:443"},
		{name: "a wrong authority", target: "discovery:///echo?authority=other.prod", wantErr: "not other.prod"},
		{name: "the instance's name", target: "discovery:///echo", opts: []Option{ownName}, want: "one.prod"},
		{name: "before the target's", target: "discovery:///echo?authority=other.prod", opts: []Option{ownName}, want: "one.prod"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				serverCreds, clientCreds := certificate(t, "all.prod", "one.prod")
				sys := testenv.New(t)
				sys.Start(registry.Instance{ID: "plaintext"}) // is not called
				server := sys.Start(registry.Instance{ID: "one", TLS: true}, grpc.Creds(serverCreds))
				conn := sys.Dial(test.target, grpc.WithTransportCredentials(clientCreds), grpc.WithResolvers(NewBuilder(sys.Registry, test.opts...)))
				if test.wantErr != "" {
					if _, _, err := get(t, conn, 0); err == nil || !strings.Contains(err.Error(), test.wantErr) {
						t.Errorf("the call ended with %v, want an error with %q", err, test.wantErr)
					}
					return
				}
				if got := authorityOf(t, server, conn); got != test.want {
					t.Errorf("the server saw the authority %q, want %q", got, test.want)
				}
			})
		})
	}
}

// certificate makes the credentials of a server that has these names, and of a
// client that trusts it.
func certificate(t *testing.T, names ...string) (server, client credentials.TransportCredentials) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}),
		credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})
}
