package balancer

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// kinds remembers of methods whether they are unary. Each is at one of a few places,
// from the first that its hash tells; when there are too many methods they take the
// places from each other.
type kinds [256]atomic.Pointer[kind]

const placesOfEach = 8

var seed = maphash.MakeSeed()

type kind struct {
	method string
	call   callKind // unaryCall or streamCall
}

// of returns unaryCall if the call is known to be unary, by its record or by the
// method's descriptor, and streamCall if it is anything else.
func (k *kinds) of(what call) callKind {
	if what.rec.Unary() {
		return unaryCall
	}
	first := int(maphash.String(seed, what.method) % uint64(len(k)))
	place := &k[first]
	for i := range placesOfEach {
		p := &k[(first+i)%len(k)]
		known := p.Load()
		if known == nil {
			place = p
			break
		}
		if known.method == what.method {
			return known.call
		}
	}
	call := described(what.method)
	place.Store(&kind{what.method, call})
	return call
}

// described is what the method's descriptor says.
func described(method string) callKind {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if m, ok := found.(protoreflect.MethodDescriptor); err == nil && ok && !m.IsStreamingClient() && !m.IsStreamingServer() {
		return unaryCall
	}
	return streamCall
}
