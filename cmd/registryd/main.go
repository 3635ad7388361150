// Registryd is the embedded registry as a program: one node of the
// service_discovery HTTP API, in memory.
//
//	registryd -listen 127.0.0.1:6666 -env dev
//
// It says on standard output what it listens on, and on standard error what
// changes. SIGTERM, SIGINT, SIGHUP and SIGQUIT stop it in order, a second one at
// once. The exit code is 0 after an orderly stop, 1 when serving failed and 2
// when it could not start as it was asked to. -h lists the flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/rollcall-go/rollcall/registry/registryserver"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // serving failed
	exitUsage  = 2 // could not start as asked to
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	context.AfterFunc(ctx, stop) // the second signal does what it always does
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: it returns its exit code when ctx has ended or it failed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.usage(stdout)
		return exitOK
	case err != nil:
		return fail(stderr, err)
	}
	server, err := registryserver.New(flags.options(stderr)...)
	if err != nil {
		return fail(stderr, err)
	}
	defer func() { _ = server.Close() }()
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", flags.listen)
	if err != nil {
		return fail(stderr, fmt.Errorf("cannot listen on %q: %w; give a free host:port, such as %s", flags.listen, err, defaultListen))
	}
	_, _ = fmt.Fprintf(stdout, "registryd listening on %s env=%s\n", lis.Addr(), flags.env)
	if err := server.Serve(ctx, lis); err != nil {
		_, _ = fmt.Fprintf(stderr, "registryd: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func fail(stderr io.Writer, err error) int {
	_, _ = fmt.Fprintf(stderr, "registryd: %v\nregistryd -h lists the flags.\n", err)
	return exitUsage
}

// options turns the flags into what New takes; it checks them.
func (f *flags) options(stderr io.Writer) []registryserver.Option {
	logger := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: f.logLevel}))
	opts := []registryserver.Option{
		registryserver.WithEnv(f.env),
		registryserver.WithAdvertise(f.advertise),
		registryserver.WithMaxBody(f.maxBody),
		registryserver.WithExpiry(f.expiry),
		registryserver.WithLogger(logger),
	}
	if f.name != "" {
		opts = append(opts, registryserver.WithNodeName(f.name))
	}
	return opts
}
