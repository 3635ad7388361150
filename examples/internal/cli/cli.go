// Package cli is what the example programs share: how they read flags and how
// they exit.
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// What both sides find each other by when the flags do not say.
const (
	DefaultRegistry = "127.0.0.1:6666"
	DefaultEnv      = "dev"
	DefaultService  = "echo"
)

// The exit codes.
const (
	ExitOK      = 0 // done, or stopped as asked
	ExitFailure = 1 // something failed while running
	ExitUsage   = 2 // bad input: nothing was tried
)

// usageError is bad input.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage makes err one of bad input; nil stays nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// Usagef returns an error for bad input: what was wrong and what would be right.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Main runs a program and exits. Errors made with Usagef exit with ExitUsage,
// others with ExitFailure.
func Main(name string, run func(args []string, stdout io.Writer) error) {
	os.Exit(exitCode(name, run(os.Args[1:], os.Stdout), os.Stderr))
}

func exitCode(name string, err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return ExitOK
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	if _, usage := errors.AsType[usageError](err); usage {
		fmt.Fprintf(stderr, "%s -h lists the flags\n", name)
		return ExitUsage
	}
	return ExitFailure
}

// Flags is a flag set whose errors are usage errors and say one thing only.
type Flags struct {
	*flag.FlagSet
	about string
}

// NewFlags returns a flag set for the program; about is printed with its help.
func NewFlags(name, about string) *Flags {
	f := &Flags{flag.NewFlagSet(name, flag.ContinueOnError), about}
	f.SetOutput(io.Discard) // Parse reports the one line that matters
	return f
}

// Read parses args. For -h it prints the help to out and returns flag.ErrHelp.
func (f *Flags) Read(args []string, out io.Writer) error {
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(out, "%s\n\nFlags:\n", strings.TrimSpace(f.about))
		f.SetOutput(out)
		f.PrintDefaults()
		return err
	case err != nil:
		return Usage(err)
	case f.NArg() > 0:
		return Usagef("unexpected argument %q: everything is given as a flag", f.Arg(0))
	}
	return nil
}

// Given says whether the flag was on the command line.
func (f *Flags) Given(name string) bool {
	given := false
	f.Visit(func(seen *flag.Flag) { given = given || seen.Name == name })
	return given
}

// Logger returns a logger to standard error for this level and above, or for
// everything.
func Logger(everything bool, level slog.Level) *slog.Logger {
	if everything {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// List splits a comma-separated list and drops the space around its items. An
// empty string is an empty list; empty items stay, for the reader to refuse.
func List(s string) []string {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	items := strings.Split(s, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}
