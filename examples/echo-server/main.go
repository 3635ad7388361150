// Command echo-server serves the Echo service and registers it.
//
//	echo-server -registry 127.0.0.1:6666 -service echo -id a -weight 5
//
// It says on standard output what it listens on and how its life goes on. On
// SIGTERM or SIGINT it leaves the registry, lets its calls finish and exits with
// 0; the second signal ends it hard. Exit code 1 means that it could not
// register or failed while serving, 2 that a flag is wrong or the port in use.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/examples/internal/cli"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
)

func main() { cli.Main("echo-server", run) }

func run(args []string, stdout io.Writer) (err error) {
	cfg, err := parseFlags(args, stdout)
	if err != nil {
		return err
	}
	logger := cli.Logger(cfg.verbose, slog.LevelInfo)
	reg, err := httpregistry.New(cfg.registries, httpregistry.WithEnv(cfg.env),
		httpregistry.WithHeartbeat(cfg.heartbeat), httpregistry.WithLogger(logger))
	if err != nil {
		return cli.Usage(err)
	}
	defer func() { err = errors.Join(err, reg.Close()) }()
	stats, err := newStats(cfg.stats)
	if err != nil {
		return cli.Usage(err)
	}
	defer func() { err = errors.Join(err, stats.close()) }()
	lis, err := net.Listen("tcp", cfg.listen)
	if err != nil {
		return cli.Usage(err)
	}
	return serve(cfg, reg, stats, lis, logger, stdout)
}

// serve runs the server until a signal has taken it through its closing
// sequence.
func serve(cfg config, reg registrar.Registry, stats *stats, lis net.Listener, logger *slog.Logger, stdout io.Writer) error {
	inst := registry.Instance{Service: cfg.service, ID: cfg.id, Weight: cfg.weight, Zone: cfg.zone, Version: cfg.version}
	opts := []registrar.Option{
		registrar.WithDrainDelay(cfg.drainDelay),
		registrar.WithGraceTimeout(cfg.graceTimeout),
		registrar.WithRegisterTimeout(cfg.registerTimeout),
		registrar.WithAdvertise(cfg.advertise),
		registrar.WithLogger(logger),
		registrar.WithStateObserver(func(s registrar.State) { fmt.Fprintf(stdout, "echo-server %s\n", s) }),
	}
	if cfg.background {
		opts = append(opts, registrar.WithRegisterInBackground())
	}
	r := registrar.New(reg, inst, opts...)
	srv := grpc.NewServer(append(r.ServerOptions(), middleware(logger, cfg.verbose)...)...)
	id := r.Instance().ID
	echov1.RegisterEchoServer(srv, newEcho(id, cfg.latency, cfg.fail, stats))
	fmt.Fprintf(stdout, "echo-server listening on %s service=%s id=%s\n", lis.Addr(), cfg.service, id)
	err := registrar.Run(context.Background(), r, srv, lis)
	if errors.Is(err, registry.ErrInvalid) {
		return cli.Usage(err)
	}
	return err
}
