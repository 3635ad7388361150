// Package proc runs programs as child processes for the demo and for tests: it
// keeps what they print, waits for what they say, and leaves none behind.
package proc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// maxLine is the longest line that is read; the rest of a longer one is lost.
const maxLine = 1 << 20

// Process is a running or ended child process.
type Process struct {
	name   string
	cmd    *exec.Cmd
	onLine func(line string)
	done   chan struct{} // closed when it has ended and its output has been read

	mu      sync.Mutex // guards all below; nothing is called under it
	lines   []line
	changed chan struct{} // closed and replaced at every line
}

type line struct {
	text   string
	stderr bool
}

// Start starts the program. onLine, if not nil, is called for every line of its
// standard output, one after another. When ctx ends the process is killed; on
// Linux also when this process dies.
func Start(ctx context.Context, name string, onLine func(line string), path string, args ...string) (*Process, error) {
	p := &Process{name: name, onLine: onLine, done: make(chan struct{}), changed: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, path, args...)
	p.cmd.SysProcAttr = attributes()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go p.follow(stdout, stderr)
	return p, nil
}

// follow reads the output to its end and then collects the process.
func (p *Process) follow(stdout, stderr io.Reader) {
	defer close(p.done)
	var readers sync.WaitGroup
	readers.Go(func() { p.read(stdout, false) })
	readers.Go(func() { p.read(stderr, true) })
	readers.Wait()
	_ = p.cmd.Wait() // the exit code says it all
}

func (p *Process) read(from io.Reader, stderr bool) {
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		p.add(line{scanner.Text(), stderr})
		if p.onLine != nil && !stderr {
			p.onLine(scanner.Text())
		}
	}
	_, _ = io.Copy(io.Discard, from) // after a line too long: let it go on
}

func (p *Process) add(l line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, l)
	close(p.changed)
	p.changed = make(chan struct{})
}

// Name returns the name given to Start.
func (p *Process) Name() string { return p.name }

// WaitLine waits for a line of standard output or error that contains text and
// returns it; lines printed before count. When the process ends without one, or
// ctx ends first, the error shows what it did print.
func (p *Process) WaitLine(ctx context.Context, text string) (string, error) {
	for {
		ended := p.ended() // before the look: then nothing can come after it
		found, changed := p.find(text)
		switch {
		case found != nil:
			return found.text, nil
		case ended:
			return "", fmt.Errorf("%s ended with exit code %d without saying %q:\n%s", p.name, p.ExitCode(), text, p.Output())
		}
		select {
		case <-changed:
		case <-p.done:
		case <-ctx.Done():
			return "", fmt.Errorf("%s has not said %q: %w; it said:\n%s", p.name, text, ctx.Err(), p.Output())
		}
	}
}

// find returns the first line that contains text, or nil and a channel that is
// closed when there is another line.
func (p *Process) find(text string) (*line, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.lines {
		if strings.Contains(p.lines[i].text, text) {
			return &p.lines[i], nil
		}
	}
	return nil, p.changed
}

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Output returns all it has printed, standard output and error as they came.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all strings.Builder
	for _, l := range p.lines {
		fmt.Fprintln(&all, l.text)
	}
	return all.String()
}

// Stdout returns the lines of standard output so far.
func (p *Process) Stdout() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, l := range p.lines {
		if !l.stderr {
			out = append(out, l.text)
		}
	}
	return out
}

// Signal sends a signal; a process that has ended takes it without an error.
func (p *Process) Signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// Done is closed when the process has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end and returns the exit code, -1 if a signal ended it.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s has not ended: %w; it said:\n%s", p.name, ctx.Err(), p.Output())
	}
}

// ExitCode returns the exit code of a process that has ended.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Kill ends the process at once and waits until it has.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}
