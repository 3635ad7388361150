package pick

import (
	"testing"
	"unsafe"
)

// Every call has one: what it weighs, the garbage collector carries.
func TestRecordIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(recorded{}); got > 112 {
		t.Errorf("a record and its context have %d bytes, want the 112 of a size class", got)
	}
}
