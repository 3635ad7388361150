package resolver

import (
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry"
)

// inProxyTest marks the process that TestHTTPSProxy starts.
const inProxyTest = "ROLLCALL_TEST_PROXY"

// TestHTTPSProxy has one half in a process of its own: net/http reads the
// environment once.
func TestHTTPSProxy(t *testing.T) {
	var connects atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connects.Add(1)
		http.Error(w, "the proxy refuses "+r.Method+" "+r.Host, http.StatusBadGateway)
	}))
	defer proxy.Close()
	for _, test := range []struct {
		name, want string
		env        []string
	}{
		{name: "proxied", env: []string{"NO_PROXY="}, want: "0 direct, 1 warned"},
		{name: "NO_PROXY names the servers", env: []string{"NO_PROXY=0.0.0.0/8"}, want: "1 direct, 0 warned"},
		{name: "NO_PROXY names the service", env: []string{"NO_PROXY=echo"}, want: "1 direct, 0 warned"},
		{name: "DialOptions", env: []string{"NO_PROXY=", inProxyTest + "=DialOptions"}, want: "1 direct, 0 warned"},
	} {
		t.Run(test.name, func(t *testing.T) {
			connects.Store(0)
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInProxyProcess$", "-test.v")
			cmd.Env = append(os.Environ(), inProxyTest+"=plain", "HTTPS_PROXY="+proxy.URL, "https_proxy=", "no_proxy=")
			cmd.Env = append(cmd.Env, test.env...)
			out, err := cmd.CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte(test.want)) {
				t.Errorf("want %q, got %v:\n%s", test.want, err, out)
			}
			if direct := strings.HasPrefix(test.want, "1 direct"); direct != (connects.Load() == 0) {
				t.Errorf("the proxy was asked %d times", connects.Load())
			}
		})
	}
}

// TestInProxyProcess calls a server and prints what happened. The address is
// that of the local system, but none that is never proxied.
func TestInProxyProcess(t *testing.T) {
	mode := os.Getenv(inProxyTest)
	if mode == "" {
		return // TestHTTPSProxy runs it
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	echov1.RegisterEchoServer(server, testenv.NewEcho("a"))
	go server.Serve(lis)
	defer server.Stop()
	_, port, _ := net.SplitHostPort(lis.Addr().String())

	src := newSource()
	src.shows(registry.Instance{Service: "echo", ID: "a", Addrs: []string{net.JoinHostPort("0.0.0.0", port)}})
	var log bytes.Buffer
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithResolvers(NewBuilder(src, WithLogger(slog.New(slog.NewTextHandler(&log, nil))))),
	}
	if mode == "DialOptions" {
		opts = append(opts, DialOptions()...)
	}
	conn, err := grpc.NewClient(echoTarget, opts...)
	if err != nil {
		t.Fatal(err)
	}
	direct := 1
	if _, _, err := get(t, conn, 0); err != nil {
		direct = 0
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the proxy refuses CONNECT 0.0.0.0:"+port) {
			t.Errorf("the call failed with %v", err)
		}
	}
	conn.Close() // joins the resolver, which writes the log
	t.Logf("%d direct, %d warned", direct, strings.Count(log.String(), "HTTPS_PROXY"))
}
