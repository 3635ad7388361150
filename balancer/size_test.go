package balancer

import (
	"testing"
	"unsafe"
)

// Go aligns what has the size of one of its powers of two.
func TestCacheLines(t *testing.T) {
	if got := unsafe.Sizeof(conn{}); got != 256 {
		t.Errorf("a conn has %d bytes, want 256: then its first 64 share a cache line", got)
	}
	if got := unsafe.Offsetof(conn{}.dones); got != 64 {
		t.Errorf("what picks read has %d bytes, want 64", got)
	}
	if got := unsafe.Sizeof(tally{}); got != 64 {
		t.Errorf("a tally has %d bytes, want the 64 of a cache line", got)
	}
}
