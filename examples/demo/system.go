package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rollcall-go/rollcall/internal/proc"
)

// service is the name that the demo's client asks for.
const service = "greeter"

// patience is how long a process may take to do what it was told.
const patience = 20 * time.Second

// system is the processes of the demo.
type system struct {
	ctx context.Context // when it ends all processes are killed
	bin string

	registry string                   // its address
	running  map[string]*proc.Process // those that are to run now, by name
	all      []*proc.Process

	mu  sync.Mutex // guards out: lines of the client and of the demo come from different goroutines
	out io.Writer
}

func newSystem(ctx context.Context, bin string, out io.Writer) *system {
	return &system{ctx: ctx, bin: bin, running: map[string]*proc.Process{}, out: out}
}

// say prints one line.
func (s *system) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format+"\n", args...)
}

// event prints what happens to a process, between the client's rows.
func (s *system) event(format string, args ...any) {
	s.say("   >>> "+format, args...)
}

func (s *system) start(name string, onLine func(string), program string, args ...string) (*proc.Process, error) {
	p, err := proc.Start(s.ctx, name, onLine, filepath.Join(s.bin, program), args...)
	if err != nil {
		return nil, fmt.Errorf("%w (make build makes the programs)", err)
	}
	s.running[name] = p
	s.all = append(s.all, p)
	return p, nil
}

func (s *system) startRegistry() error {
	p, err := s.start("registryd", nil, "registryd", "-listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	line, err := s.waitLine(p, "listening on ")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(line, "listening on ")
	s.registry, _, _ = strings.Cut(rest, " ")
	s.event("registry on %s", s.registry)
	return nil
}

// startServer returns when the server is registered.
func (s *system) startServer(inst instance) error {
	p, err := s.start(inst.id, nil, "echo-server", "-registry", s.registry, "-service", service,
		"-id", inst.id, "-weight", fmt.Sprint(inst.weight), "-drain-delay", "1s")
	if err != nil {
		return err
	}
	if _, err := s.waitLine(p, "echo-server registered"); err != nil {
		return err
	}
	s.event("server %s with weight %d is registered", inst.id, inst.weight)
	return nil
}

// startClient starts the load; its rows appear as they come.
func (s *system) startClient(rps int) error {
	_, err := s.start("client", s.relay(), "echo-client", "-registry", s.registry, "-service", service,
		"-poll", "500ms", "-warm-up", "500ms", "-rps", fmt.Sprint(rps), "-duration", "0", "-fail-mode", "failover", "-method", "get")
	return err
}

// relay prints the client's lines up to its summary, which begins with an empty
// one: the verdict has the figures.
func (s *system) relay() func(string) {
	summary := false
	return func(line string) {
		summary = summary || line == ""
		if !summary {
			s.say("%s", line)
		}
	}
}

// stop tells a process to end in order and fails if it does not exit with 0.
func (s *system) stop(name string) (*proc.Process, error) {
	p := s.running[name]
	delete(s.running, name)
	p.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	code, err := p.Wait(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s exited with code %d; it said:\n%s", name, code, p.Output())
	}
	return p, err
}

// kill ends a process with SIGKILL.
func (s *system) kill(name string) {
	s.running[name].Kill()
	delete(s.running, name)
}

// pause lets the load go on, and fails if a process ends meanwhile.
func (s *system) pause(d time.Duration) error {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	for name, p := range s.running {
		watchers.Go(func() {
			select {
			case <-p.Done():
				cancel(fmt.Errorf("%s ended by itself with exit code %d; it said:\n%s", name, p.ExitCode(), p.Output()))
			case <-ctx.Done():
			}
		})
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		cancel(nil)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *system) waitLine(p *proc.Process, text string) (string, error) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	return p.WaitLine(ctx, text)
}

// close ends whatever still runs.
func (s *system) close() {
	for _, p := range s.all {
		p.Kill()
	}
}
