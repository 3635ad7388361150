package failmode

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Descriptors finds the descriptor of a service's method, like
// protoregistry.Files does.
type Descriptors interface {
	FindDescriptorByName(protoreflect.FullName) (protoreflect.Descriptor, error)
}

// methods knows which methods may execute more than once. What is unknown may
// not.
type methods struct {
	exact       map[string]bool
	prefixes    []string
	descriptors Descriptors
	known       sync.Map // full method -> bool, for those that have a descriptor
}

func newMethods() *methods {
	return &methods{exact: map[string]bool{}, descriptors: protoregistry.GlobalFiles}
}

// declare adds full methods, and prefixes of such that end in a star. The
// leading slash may be missing.
func (m *methods) declare(names []string) {
	for _, name := range names {
		name = "/" + strings.TrimPrefix(name, "/")
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			m.prefixes = append(m.prefixes, prefix)
		} else {
			m.exact[name] = true
		}
	}
}

func (m *methods) idempotent(method string) bool {
	if m.exact[method] {
		return true
	}
	for _, prefix := range m.prefixes {
		if strings.HasPrefix(method, prefix) {
			return true
		}
	}
	return m.promised(method)
}

// promised is what the method's descriptor says, looked up once. A method
// without one is not remembered, since there may be any number of those.
func (m *methods) promised(method string) bool {
	if known, ok := m.known.Load(method); ok {
		return known.(bool)
	}
	if m.descriptors == nil {
		return false
	}
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	found, err := m.descriptors.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return false
	}
	descriptor, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return false
	}
	options, _ := descriptor.Options().(*descriptorpb.MethodOptions)
	promise := options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
	m.known.Store(method, promise)
	return promise
}
