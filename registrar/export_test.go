package registrar

import "google.golang.org/grpc"

// Unary is the interceptor by itself.
func Unary(r *Registrar) grpc.UnaryServerInterceptor { return r.unary }

// ChooseAddrs is what is advertised for an explicit address, or none.
func ChooseAddrs(explicit, listen string) (addrs []string, port string, err error) {
	l := &life{Registrar: &Registrar{opts: options{advertise: explicit}}}
	return l.chooseAddrs(listen, nil)
}
