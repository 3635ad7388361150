package failmode_test

import (
	"testing"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/pick"
)

// The zero value of the exported type is an option that sets nothing.
func TestZeroCallOptionSetsNothing(t *testing.T) {
	interceptor := failmode.UnaryClientInterceptor(failmode.Failover, failmode.CallOption{})
	f := &fake{script: []outcome{{class: pick.Answered}}}
	if err := call(t.Context(), f, interceptor, failmode.CallOption{}); err != nil {
		t.Error(err)
	}
}
