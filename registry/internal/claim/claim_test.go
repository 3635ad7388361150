package claim

import (
	"errors"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

func inst(service, id string, addrs ...string) registry.Instance {
	return registry.Instance{Service: service, ID: id, Addrs: addrs}
}

func TestAddRefusesWhatIsHeld(t *testing.T) {
	tests := []struct {
		name string
		inst registry.Instance
		want error
	}{
		{"same ID elsewhere", inst("greeter", "a", "10.0.0.2:1"), registry.ErrDuplicate},
		{"same address, other ID", inst("greeter", "b", "10.0.0.1:1"), registry.ErrDuplicate},
		{"one of several addresses", inst("greeter", "b", "10.0.0.2:1", "10.0.0.1:2"), registry.ErrDuplicate},
		{"other service, same ID and address", inst("echo", "a", "10.0.0.1:1"), nil},
		{"other ID and address", inst("greeter", "b", "10.0.0.2:1"), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var set Set
			if _, err := set.Add(inst("greeter", "a", "10.0.0.1:1", "10.0.0.1:2")); err != nil {
				t.Fatal(err)
			}
			c, err := set.Add(tt.inst)
			if !errors.Is(err, tt.want) {
				t.Fatalf("Add = %v, want %v", err, tt.want)
			}
			if (c == nil) != (err != nil) {
				t.Errorf("Add = %v with error %v", c, err)
			}
		})
	}
}

func TestReleaseFreesIDAndAddresses(t *testing.T) {
	var set Set
	first, err := set.Add(inst("greeter", "a", "10.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	first.Release()
	second, err := set.Add(inst("greeter", "a", "10.0.0.1:1"))
	if err != nil {
		t.Fatalf("Add after Release = %v", err)
	}
	first.Release() // a second time: must not free what second holds
	if err := first.Move([]string{"10.0.0.9:1"}); err != nil {
		t.Errorf("Move of a released claim = %v", err)
	}
	if _, err := set.Add(inst("greeter", "b", "10.0.0.9:1")); err != nil {
		t.Errorf("a released claim took an address: %v", err)
	}
	if _, err := set.Add(inst("greeter", "a", "10.0.0.3:1")); !errors.Is(err, registry.ErrDuplicate) {
		t.Errorf("Add of what second holds = %v, want ErrDuplicate", err)
	}
	second.Release()
}

func TestMove(t *testing.T) {
	var set Set
	a, _ := set.Add(inst("greeter", "a", "10.0.0.1:1", "10.0.0.1:2"))
	b, _ := set.Add(inst("greeter", "b", "10.0.0.2:1"))

	if err := b.Move([]string{"10.0.0.3:1", "10.0.0.1:2"}); !errors.Is(err, registry.ErrDuplicate) {
		t.Fatalf("Move to a held address = %v, want ErrDuplicate", err)
	}
	if _, err := set.Add(inst("greeter", "c", "10.0.0.2:1")); !errors.Is(err, registry.ErrDuplicate) {
		t.Errorf("after a failed Move the old address is free: %v", err)
	}
	if err := a.Move([]string{"10.0.0.1:1"}); err != nil { // its own address stays its own
		t.Fatalf("Move to fewer addresses = %v", err)
	}
	if err := b.Move([]string{"10.0.0.1:2"}); err != nil {
		t.Errorf("Move to an address given up = %v", err)
	}
	if _, err := set.Add(inst("greeter", "c", "10.0.0.2:1")); err != nil {
		t.Errorf("the address that b moved away from is still held: %v", err)
	}
}
