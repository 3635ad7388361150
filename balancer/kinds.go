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
type kinds struct {
	places [256]atomic.Pointer[kind]
	latest atomic.Pointer[kind] // expected, which is found without a hash
}

const placesOfEach = 8

var seed = maphash.MakeSeed()

type kind struct {
	method string
	call   callKind // unaryCall or streamCall
}

// of returns unaryCall if the method is known to be unary, by its descriptor, and
// streamCall if it is anything else.
func (k *kinds) of(method string) callKind {
	if call := k.expected(method); call != uncounted {
		return call
	}
	return k.find(method).call
}

// expected returns the same for the method that is expected, and uncounted for any
// other. It is short enough to become part of Pick.
func (k *kinds) expected(method string) callKind {
	if latest := k.latest.Load(); latest != nil && latest.method == method {
		return latest.call
	}
	return uncounted
}

// expect takes note of a method that will probably be asked for again.
func (k *kinds) expect(method string) {
	if latest := k.latest.Load(); latest == nil || latest.method != method {
		k.latest.Store(k.find(method))
	}
}

// find returns the kind of calls of this method.
func (k *kinds) find(method string) *kind {
	first := int(maphash.String(seed, method) % uint64(len(k.places)))
	place := &k.places[first]
	for i := range placesOfEach {
		p := &k.places[(first+i)%len(k.places)]
		known := p.Load()
		if known == nil {
			place = p
			break
		}
		if known.method == method {
			return known
		}
	}
	found := &kind{method, described(method)}
	place.Store(found)
	return found
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
