package bench

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// A policy that times calls does so only if it knows them to be unary: of another method
// its picks would seem to cost less than they do.
func TestPicksAreForAMethodThatIsKnown(t *testing.T) {
	name := strings.ReplaceAll(strings.TrimPrefix(info().FullMethodName, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if method, ok := found.(protoreflect.MethodDescriptor); err != nil || !ok || method.IsStreamingClient() || method.IsStreamingServer() {
		t.Errorf("%s is no unary method that is known: %v", name, err)
	}
}
