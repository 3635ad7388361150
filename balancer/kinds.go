package balancer

import (
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// kinds remembers of methods whether they are unary, in places that methods may
// take from each other.
type kinds [64]atomic.Pointer[kind]

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
	place := &k[placeOf(what.method)]
	known := place.Load()
	if known == nil || known.method != what.method {
		known = &kind{what.method, described(what.method)}
		place.Store(known)
	}
	return known.call
}

// placeOf spreads methods, which mostly differ in length or at the end.
func placeOf(method string) int {
	n := len(method)
	if n < 2 {
		return n
	}
	return (n + 7*int(method[n-1]) + 31*int(method[n-2])) % len(kinds{})
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
