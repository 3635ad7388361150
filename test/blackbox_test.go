// Package test looks at the whole system from outside: the project's programs
// as real processes on loopback, and the facts about the repository that no
// package can check for itself.
//
// The tests of the programs come in a short form, of seconds, which is what
// make test runs, and in the long one of make soak.
package test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/proc"
)

var (
	soak    = flag.Bool("soak", false, "run the long forms")
	rollFor = flag.Duration("roll", 0, "for how long to restart servers at least")
)

// bin has the programs, built as the contract with their users says.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "rollcall-test-")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-o", dir, "./cmd/registryd", "./examples/echo-server", "./examples/echo-client",
		"./examples/demo", "./examples/quickstart/server", "./examples/quickstart/client")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		log.Printf("%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// patience is how long a process may take for what it does at once when the
// machine is idle.
const patience = 30 * time.Second

// within returns the value for the short form, or that for the long one.
func within[T any](short, long T) T {
	if *soak {
		return long
	}
	return short
}

// start runs a program until the end of the test.
func start(t *testing.T, name, program string, args ...string) *proc.Process {
	t.Helper()
	p, err := proc.Start(context.Background(), name, nil, filepath.Join(bin, program), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %s said:\n%s", name, strings.Join(args, " "), tail(p.Output()))
		}
	})
	return p
}

// tail is the end of a long text.
func tail(s string) string {
	const limit = 4000
	if len(s) <= limit {
		return s
	}
	return "[...]" + s[len(s)-limit:]
}

// said waits for a line with this text.
func said(t *testing.T, p *proc.Process, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	line, err := p.WaitLine(ctx, text)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// ended waits for the end of a process and returns its exit code.
func ended(t *testing.T, p *proc.Process, atMost time.Duration) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	code, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// terminate sends SIGTERM and fails unless the process then exits with 0.
func terminate(t *testing.T, p *proc.Process) {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := ended(t, p, patience); code != 0 {
		t.Fatalf("%s exited with %d after SIGTERM:\n%s", p.Name(), code, tail(p.Output()))
	}
}

// startRegistry runs registryd on addr, which may leave the port open, and
// returns where it listens.
func startRegistry(t *testing.T, addr string) (*proc.Process, string) {
	t.Helper()
	p := start(t, "registryd", "registryd", "-listen", addr)
	return p, listens(t, p)
}

func listens(t *testing.T, p *proc.Process) string {
	t.Helper()
	_, rest, _ := strings.Cut(said(t, p, "listening on "), "listening on ")
	addr, _, _ := strings.Cut(rest, " ")
	return addr
}

// server is a running echo-server.
type server struct {
	*proc.Process
	stats string // the file with its counters
}

// startServer runs an echo-server and returns when it is registered.
func startServer(t *testing.T, registry, id string, args ...string) server {
	t.Helper()
	s := launchServer(t, registry, id, args...)
	said(t, s.Process, "echo-server registered")
	return s
}

// launchServer runs an echo-server and returns when it listens.
func launchServer(t *testing.T, registry, id string, args ...string) server {
	t.Helper()
	stats := filepath.Join(t.TempDir(), "stats.json")
	args = append([]string{"-registry", registry, "-id", id, "-drain-delay", "1s", "-stats", stats}, args...)
	s := server{start(t, id, "echo-server", args...), stats}
	listens(t, s.Process)
	return s
}

// weighted runs three servers with the weights 5, 3 and 2.
func weighted(t *testing.T, registry string, args ...string) map[string]server {
	t.Helper()
	servers := map[string]server{}
	for id, weight := range map[string]string{"a": "5", "b": "3", "c": "2"} {
		servers[id] = startServer(t, registry, id, append([]string{"-weight", weight}, args...)...)
	}
	return servers
}

// executed returns how often the server has executed each method.
func (s server) executed(t *testing.T) map[string]int64 {
	t.Helper()
	data, err := os.ReadFile(s.stats)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	if err := json.Unmarshal(data, &counts); err != nil {
		t.Fatalf("%s: %v in %q", s.stats, err, data)
	}
	return counts
}

// report is the last line of echo-client.
type report struct {
	Calls, OK, Failed, Attempts int64
	Errors, Classes             map[string]int64
	PerInstance                 map[string]int64 `json:"per_instance"`
	P50                         float64          `json:"p50_ms"`
	P99                         float64          `json:"p99_ms"`
	Max                         float64          `json:"max_ms"`
	Seconds                     float64
	Messages                    []struct {
		Code, Text string
		Count      int64
	}
}

// startClient runs an echo-client against the registry.
func startClient(t *testing.T, registry string, args ...string) *proc.Process {
	t.Helper()
	return start(t, "echo-client", "echo-client", append([]string{"-registry", registry, "-poll", "500ms", "-timeout", "5s"}, args...)...)
}

// finish waits until a client has ended by itself and returns its report.
func finish(t *testing.T, client *proc.Process) report {
	t.Helper()
	if code := ended(t, client, within(2*time.Minute, 5*time.Minute)); code != 0 {
		t.Fatalf("echo-client exited with %d:\n%s", code, tail(client.Output()))
	}
	lines := client.Stdout()
	if len(lines) == 0 {
		t.Fatal("echo-client said nothing")
	}
	var r report
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("the last line of echo-client: %v: %s", err, lines[len(lines)-1])
	}
	return r
}

// interrupt ends a client early and returns its report.
func interrupt(t *testing.T, client *proc.Process) report {
	t.Helper()
	client.Signal(os.Interrupt)
	return finish(t, client)
}

// failsNone fails the test unless there were calls and none of them failed.
func (r report) failsNone(t *testing.T) {
	t.Helper()
	if r.Failed != 0 || r.OK == 0 || r.OK != r.Calls {
		t.Errorf("%d of %d calls failed: %v %+v", r.Failed, r.Calls, r.Errors, r.Messages)
	}
}

// neverPicked fails the test unless it is certain of every attempt that failed
// that nobody was picked for it.
func (r report) neverPicked(t *testing.T) {
	t.Helper()
	if len(r.Classes) != 1 || r.Classes["never_picked"] == 0 {
		t.Errorf("failed attempts by class: %v, want never_picked only", r.Classes)
	}
}

// says fails the test unless an error of the run contains each of the texts.
func (r report) says(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		found := false
		for _, m := range r.Messages {
			found = found || strings.Contains(m.Text, text)
		}
		if !found {
			t.Errorf("no error says %q: %+v", text, r.Messages)
		}
	}
}

// closedPort returns a loopback address that nobody listens on, for a program
// to be started there later, or never.
func closedPort(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

// until waits for what no process says by itself.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !is() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// besideOthers lets a test with load run beside others, unless it is a lot.
func besideOthers(t *testing.T) {
	if !*soak {
		t.Parallel()
	}
}

func arg(v any) string { return fmt.Sprint(v) }
