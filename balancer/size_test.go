package balancer

import (
	"testing"
	"unsafe"
)

// Go aligns what has the size of one of its powers of two.
func TestCacheLines(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("laid out for words of 8 bytes")
	}
	if got := unsafe.Sizeof(conn{}); got != 256 {
		t.Errorf("a conn has %d bytes, want 256: then its first 64 share a cache line", got)
	}
	var c conn
	dones := unsafe.Offsetof(c.dones)
	if dones+unsafe.Sizeof(c.dones[uncounted]) > 64 || dones+unsafe.Sizeof(c.dones) > 128 {
		t.Errorf("the Dones of a conn are from byte %d on, want those of uncounted calls in its first cache line and all in the first two", dones)
	}
	if got := unsafe.Sizeof(tally{}); got != 64 {
		t.Errorf("a tally has %d bytes, want the 64 of a cache line", got)
	}
}
