package httpregistry_test

import (
	"errors"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
)

func TestLocalAddr(t *testing.T) {
	for node, want := range map[string]string{"127.0.0.1:9": "127.0.0.1", "http://localhost:9": "127.0.0.1"} {
		c, err := httpregistry.New([]string{"name.invalid:9", node})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.LocalAddr(t.Context())
		if err != nil || got.String() != want && !(node == "http://localhost:9" && got.IsLoopback()) {
			t.Errorf("route to %s: %v, %v, want %s", node, got, err, want)
		}
		c.Close()
		if _, err := c.LocalAddr(t.Context()); !errors.Is(err, registry.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	c, err := httpregistry.New([]string{"name.invalid:9"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := c.LocalAddr(t.Context()); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("no route: %v, %v", got, err)
	}
}
