package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain is also the child: PROC_TEST says what it does.
func TestMain(m *testing.M) {
	switch os.Getenv("PROC_TEST") {
	case "":
		os.Exit(m.Run())
	case "talk":
		fmt.Println("one")
		fmt.Fprintln(os.Stderr, "trouble")
		fmt.Print("two") // no newline at the end
		os.Exit(3)
	case "hang":
		fmt.Println("hanging")
		select {}
	}
}

func start(t *testing.T, what string, onLine func(string)) *Process {
	t.Helper()
	t.Setenv("PROC_TEST", what)
	p, err := Start(t.Context(), what, onLine, os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestOutputAndExitCode(t *testing.T) {
	var seen []string
	p := start(t, "talk", func(line string) { seen = append(seen, line) })
	code, err := p.Wait(t.Context())
	if err != nil || code != 3 {
		t.Errorf("exit code %d, error %v; want 3", code, err)
	}
	if want := []string{"one", "two"}; !slices.Equal(p.Stdout(), want) || !slices.Equal(seen, want) {
		t.Errorf("standard output %q, called with %q, want %q", p.Stdout(), seen, want)
	}
	if !strings.Contains(p.Output(), "trouble") {
		t.Errorf("standard error is missing in %q", p.Output())
	}
	if line, err := p.WaitLine(t.Context(), "troub"); line != "trouble" || err != nil {
		t.Errorf("after the end: %q, %v", line, err)
	}
	if _, err := p.WaitLine(t.Context(), "never said"); err == nil || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("waiting for what it never says: %v", err)
	}
}

func TestWaitLineAndKill(t *testing.T) {
	p := start(t, "hang", nil)
	if _, err := p.WaitLine(t.Context(), "hanging"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := p.WaitLine(ctx, "more"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited for what it does not say: %v", err)
	}
	if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited for a process that hangs: %v", err)
	}
	p.Kill()
	if code := p.ExitCode(); code != -1 {
		t.Errorf("exit code of a killed process is %d", code)
	}
	p.Kill()
	p.Signal(os.Interrupt)
}

func TestContextKills(t *testing.T) {
	t.Setenv("PROC_TEST", "hang")
	ctx, cancel := context.WithCancel(t.Context())
	p, err := Start(ctx, "child", nil, os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-p.Done()
}

func TestStartReportsMissingProgram(t *testing.T) {
	if _, err := Start(t.Context(), "none", nil, "/no/such/program"); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v", err)
	}
}
