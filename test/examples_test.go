package test

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry/httpregistry"
)

func TestQuickstart(t *testing.T) {
	t.Parallel()
	_, addr := startRegistry(t, "127.0.0.1:0")
	server := start(t, "server", "server", "-registry", addr)
	awaitService(t, addr, "greeter", func(ids []string) bool { return len(ids) == 1 })
	client := start(t, "client", "client", "-registry", addr)
	if code := ended(t, client, patience); code != 0 || !slices.Equal(client.Stdout(), []string{"hello world"}) {
		t.Errorf("the client exited with %d and said %q", code, client.Output())
	}
	terminate(t, server)
}

func TestDemo(t *testing.T) {
	demo := start(t, "demo", "demo", "-bin", bin)
	if code := ended(t, demo, time.Minute); code != 0 {
		t.Errorf("the demo exited with %d", code)
	}
	said(t, demo, "no call failed")
}

// However the demo ends, none of its processes is left.
func TestDemoCleansUp(t *testing.T) {
	crippled := t.TempDir()
	for _, program := range []string{"registryd", "echo-server"} { // and no client
		if err := os.Symlink(filepath.Join(bin, program), filepath.Join(crippled, program)); err != nil {
			t.Fatal(err)
		}
	}
	type end struct {
		bin  string
		stop os.Signal
	}
	ends := map[string]end{"interrupted": {bin, os.Interrupt}, "a child cannot start": {crippled, nil}}
	if runtime.GOOS == "linux" { // where the kernel can end orphans
		ends["killed"] = end{bin, os.Kill}
	}
	for name, tc := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			demo := start(t, "demo", "demo", "-bin", tc.bin)
			_, registry, _ := strings.Cut(said(t, demo, "registry on "), "registry on ")
			said(t, demo, "server a with weight 5 is registered")
			addrs := []string{registry}
			if tc.stop != nil {
				addrs = append(addrs, addressesOf(t, registry)...)
				demo.Signal(tc.stop)
			}
			if code := ended(t, demo, patience); code == 0 {
				t.Error("the demo exited with 0")
			}
			for _, addr := range addrs {
				until(t, addr+" is closed", func() bool {
					conn, err := net.Dial("tcp", addr)
					if err == nil {
						conn.Close()
					}
					return err != nil
				})
			}
		})
	}
}

// addressesOf returns where the demo's servers listen.
func addressesOf(t *testing.T, addr string) (all []string) {
	t.Helper()
	reg, err := httpregistry.New([]string{addr})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	snap, err := reg.Fetch(t.Context(), "greeter")
	if err != nil {
		t.Fatal(err)
	}
	for _, inst := range snap.Instances {
		all = append(all, inst.Addrs...)
	}
	return all
}
