package registrar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/registry"
)

// ProbeMode says what a server does about the addresses that it advertises (see
// WithSelfProbe).
type ProbeMode int

// The modes of WithSelfProbe.
const (
	ProbeOff     ProbeMode = iota + 1 // nothing
	ProbeWarn                         // dials them after it was registered and logs a warning
	ProbeRequire                      // is not registered until it is reached at each of them
)

const (
	// probeKey is the header of a health check by which a server asks who answers
	// at its address, and the trailer of the answer.
	probeKey = "rollcall-probe"
	// probeTimeout is far more than a connection takes and less than a user waits.
	probeTimeout = 3 * time.Second
)

// identify answers a probe, if the call of ctx is one.
func (g *gate) identify(ctx context.Context) {
	if md, _ := metadata.FromIncomingContext(ctx); len(md[probeKey]) > 0 {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(probeKey, g.marks.Load().identity)) // as in leave
	}
}

// identity names a process.
func identity(inst registry.Instance) string {
	return url.Values{"id": {inst.ID}, "life": {inst.Life}}.Encode()
}

// requireProbe is why the server may not be registered, if it has to be reachable
// for that.
func (l *life) requireProbe(ctx context.Context) error {
	if l.opts.probe != ProbeRequire {
		return nil
	}
	return l.probe(ctx)
}

// probeMode is the mode that was set, or the one that fits the listener.
func (l *life) probeMode() ProbeMode {
	if l.opts.probe != 0 {
		return l.opts.probe
	}
	if l.lis != nil {
		if _, socket := l.lis.Listener.(*net.TCPListener); socket {
			return ProbeWarn
		}
	}
	return ProbeOff
}

// warnOfProbe looks whether a registered server can be reached, for the log.
func (l *life) warnOfProbe() {
	if l.probeMode() != ProbeWarn {
		return
	}
	switch err := l.probe(l.wanted); {
	case l.wanted.Err() != nil:
	case err != nil:
		l.opts.logger.Warn("registrar: what is registered may not be this server; see WithAdvertise and WithSelfProbe", slog.Any("error", err))
	default:
		l.opts.logger.Debug("registrar: this server answers at its advertised addresses")
	}
}

// probe dials the advertised addresses and says whether this process answers.
func (l *life) probe(ctx context.Context) error {
	inst := l.Instance()
	var errs []error
	for _, addr := range inst.Addrs {
		if err := l.probeAddr(ctx, addr, inst); err != nil {
			errs = append(errs, fmt.Errorf("probe of the advertised address %s: %w", addr, err))
		}
	}
	return errors.Join(errs...)
}

func (l *life) probeAddr(ctx context.Context, addr string, inst registry.Instance) error {
	switch who, err := l.ask(ctx, addr, inst.TLS); {
	case who == identity(inst):
		return nil // whatever the health
	case who != "":
		return fmt.Errorf("another process answers: %s", who)
	case err != nil:
		return fmt.Errorf("this process does not answer, or has no health service: %w", err)
	default:
		return errNameless
	}
}

var errNameless = errors.New("some gRPC server answers, which is not this one, or has no ServerOptions")

// ask asks the server at addr for its identity, which is empty if it does not say.
func (l *life) ask(ctx context.Context, addr string, overTLS bool) (who string, err error) {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, probeKey, "?"), probeTimeout)
	defer cancel()
	creds := insecure.NewCredentials()
	if overTLS {
		// Whose certificate it is does not matter: the answer tells who it is.
		creds = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	}
	opts := append([]grpc.DialOption{grpc.WithTransportCredentials(creds), grpc.WithNoProxy()}, l.opts.probeDial...)
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	var trailer metadata.MD
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Trailer(&trailer))
	return strings.Join(trailer[probeKey], " "), err
}
