package registrar

import (
	"context"
	"net"
	"os"

	"google.golang.org/grpc"
)

// Unary is the interceptor by itself.
func Unary(r *Registrar) grpc.UnaryServerInterceptor { return r.unary }

// ChooseAddrs is what is advertised for an explicit address, or none.
func ChooseAddrs(explicit, listen string) (addrs []string, port string, err error) {
	l := &life{Registrar: &Registrar{opts: options{advertise: explicit}}}
	return l.chooseAddrs(listen, nil)
}

// NewListener is what Serve puts around a listener.
func NewListener(lis net.Listener) net.Listener { return newListener(lis, func() {}) }

// Remembered is how many connections it keeps hold of.
func Remembered(lis net.Listener) int { return len(lis.(*listener).conns) }

// Deserted says whether nobody is connected to it.
func Deserted(lis net.Listener) bool { return lis.(*listener).deserted() }

// RunWith is Run with signals from the channel.
func RunWith(ctx context.Context, signals chan os.Signal, r *Registrar, srv *grpc.Server, lis net.Listener) error {
	return r.serveUntil(ctx, signals, srv, lis)
}
