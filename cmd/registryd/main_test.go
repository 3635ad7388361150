package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/proc"
)

// asProgram makes the test binary be registryd, for tests that need a process.
const asProgram = "ROLLCALL_TEST_AS_REGISTRYD"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A program that has not done by then what it should never will.
const patience = time.Minute

func TestRefusesWhatItCannotDo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	tests := map[string]struct {
		args []string
		says []string
	}{
		"port in use":          {[]string{"-listen", taken.Addr().String()}, []string{"address already in use", taken.Addr().String(), "free host:port"}},
		"no port":              {[]string{"-listen", "localhost"}, []string{"missing port", "such as 127.0.0.1:6666"}},
		"impossible port":      {[]string{"-listen", "127.0.0.1:99999"}, []string{"invalid port"}},
		"env with -":           {[]string{"-env", "a-b"}, []string{`env "a-b" contains '-'`}},
		"empty env":            {[]string{"-env", ""}, []string{"env is empty"}},
		"unknown flag":         {[]string{"-port", "1"}, []string{"-port"}},
		"argument":             {[]string{"serve"}, []string{`unexpected argument "serve"`}},
		"bad duration":         {[]string{"-lease", "90"}, []string{`"90" for flag -lease`, "such as 90s"}},
		"lease below interval": {[]string{"-lease", "10s"}, []string{"lease 10s", "longer than", "30s"}},
		"hard lease too short": {[]string{"-hard-lease", "31s"}, []string{"hard lease 31s", "at least"}},
		"negative tick":        {[]string{"-tick", "-1s"}, []string{"tick -1s", "positive"}},
		"threshold above 1":    {[]string{"-threshold", "85"}, []string{"threshold 85", "0 to 1"}},
		"undialable advertise": {[]string{"-advertise", ":6666"}, []string{`":6666"`, "host:port with a host"}},
		"no body":              {[]string{"-max-body", "0"}, []string{"0 bytes"}},
		"log level":            {[]string{"-log-level", "loud"}, []string{"loud", "debug, info, warn or error"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), tt.args, &stdout, &stderr)
			if code != 2 || stdout.Len() > 0 {
				t.Errorf("exit code %d, stdout %q, want 2 and nothing", code, &stdout)
			}
			for _, text := range append(tt.says, "registryd -h") {
				if !strings.Contains(stderr.String(), text) {
					t.Errorf("stderr %q does not say %q", &stderr, text)
				}
			}
		})
	}
}

func TestHelpListsEveryFlag(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-h"}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q, want 0 and nothing", code, &stderr)
	}
	for _, text := range []string{"-listen", "127.0.0.1:6666", "-env", "dev", "-name", "-advertise", "-max-body",
		"-lease", "1m30s", "-hard-lease", "1h0m0s", "-tick", "-interval", "-threshold", "0.85", "-log-level"} {
		if !strings.Contains(stdout.String(), text) {
			t.Errorf("-h does not mention %q:\n%s", text, &stdout)
		}
	}
}

// start runs the program until the test ends or stop is called, which returns
// its exit code and what it printed to stderr.
func start(t *testing.T, args ...string) (addr string, stop func() (int, string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), stdout, &stderr)
		_ = stdout.Close()
	}()
	stop = sync.OnceValues(func() (int, string) {
		cancel()
		return <-code, stderr.String()
	})
	t.Cleanup(func() { stop() })
	var env string
	if _, err := fmt.Fscanf(out, "registryd listening on %s env=%s\n", &addr, &env); err != nil {
		t.Fatal(err)
	}
	return addr, stop
}

// post sends a request and returns the body of the answer.
func post(t *testing.T, addr, path, body string) string {
	t.Helper()
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	resp, err := client.Post("http://"+addr+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const instance = `{"env":"prod","appid":"greeter","hostname":"h1","addrs":["grpc://127.0.0.1:9000"],"status":1}`

func TestServesAndStops(t *testing.T) {
	addr, stop := start(t, "-env", "prod", "-name", "n1")
	if nodes := post(t, addr, "/api/nodes", `{"env":"prod"}`); !strings.Contains(nodes, `"hostname":"n1","addrs":["http://`+addr+`"]`) {
		t.Errorf("nodes answers %s", nodes)
	}
	post(t, addr, "/api/register", instance)
	post(t, addr, "/api/renew", instance)
	post(t, addr, "/api/cancel", instance)
	code, logged := stop()
	if code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if lines := strings.Count(logged, "\n"); lines != 2 || !strings.Contains(logged, "registered") || !strings.Contains(logged, "cancelled") {
		t.Errorf("logged %q, want two lines: registered and cancelled", logged)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Errorf("%s still accepts connections", addr)
	}
}

func TestLogLevelWarnIsSilent(t *testing.T) {
	addr, stop := start(t, "-log-level", "warn")
	post(t, addr, "/api/register", instance)
	post(t, addr, "/api/cancel", instance)
	if code, logged := stop(); code != 0 || logged != "" {
		t.Errorf("exit code %d, logged %q, want 0 and nothing", code, logged)
	}
}

func TestLimitsAreFlags(t *testing.T) {
	addr, _ := start(t, "-max-body", "60")
	if got := post(t, addr, "/api/register", instance); !strings.HasPrefix(got, `{"code":400,`) {
		t.Errorf("a body of %d bytes is answered %s, want code 400", len(instance), got)
	}
	if got := post(t, addr, "/api/register", `{"appid":"greeter","status":1}`); !strings.HasPrefix(got, `{"code":200,`) {
		t.Errorf("a short body is answered %s, want code 200", got)
	}
}

func TestWildcardIsAdvertisedAsSomethingDialable(t *testing.T) {
	addr, _ := start(t, "-listen", ":0")
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	nodes := post(t, "127.0.0.1:"+port, "/api/nodes", `{"env":"dev"}`)
	_, after, _ := strings.Cut(nodes, `"addrs":["http://`)
	advertised, _, _ := strings.Cut(after, `"`)
	if got := post(t, advertised, "/api/nodes", `{"env":"dev"}`); got != nodes {
		t.Errorf("at the advertised address %q: %s, want %s", advertised, got, nodes)
	}
}

func TestSignalsStopTheProcess(t *testing.T) {
	t.Setenv(asProgram, "1")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			p, err := proc.Start(ctx, "registryd", nil, os.Args[0], "-listen", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer p.Kill()
			line, err := p.WaitLine(ctx, "listening on")
			if err != nil {
				t.Fatal(err)
			}
			addr := strings.Fields(line)[3]
			post(t, addr, "/api/register", instance)
			p.Signal(sig)
			if code, err := p.Wait(ctx); err != nil || code != 0 {
				t.Errorf("exit code %d, error %v, want 0; it said:\n%s", code, err, p.Output())
			}
		})
	}
}
