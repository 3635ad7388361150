package balancer

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// kinds remembers of methods whether they are unary. Each has two places where it
// may be; when other methods have taken both, it takes the second from one of them.
type kinds struct {
	seed   maphash.Seed
	places [256]atomic.Pointer[kind]
}

type kind struct {
	method string
	call   uint64 // unaryCall or streamCall
}

// of returns unaryCall if the call is known to be unary, by its record or by the
// method's descriptor, and streamCall if it is anything else.
func (k *kinds) of(what call) uint64 {
	if what.rec.Unary() {
		return unaryCall
	}
	hash := maphash.String(k.seed, what.method)
	for {
		place := &k.places[hash%256]
		switch known := place.Load(); {
		case known != nil && known.method == what.method:
			return known.call
		case known == nil || hash < 256:
			known = &kind{what.method, described(what.method)}
			place.Store(known)
			return known.call
		}
		hash >>= 56
	}
}

// described is what the method's descriptor says.
func described(method string) uint64 {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if m, ok := found.(protoreflect.MethodDescriptor); err == nil && ok && !m.IsStreamingClient() && !m.IsStreamingServer() {
		return unaryCall
	}
	return streamCall
}
