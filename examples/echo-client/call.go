package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/examples/internal/cli"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registry/httpregistry"
	"github.com/rollcall-go/rollcall/resolver"
)

// methods are what -method can name. Each makes one call and returns the ID of
// the instance that served it.
var methods = map[string]func(context.Context, echov1.EchoClient) (string, error){
	"get": func(ctx context.Context, c echov1.EchoClient) (string, error) {
		resp, err := c.Get(ctx, &echov1.GetRequest{Key: "key"})
		return resp.GetInstanceId(), err
	},
	"put": func(ctx context.Context, c echov1.EchoClient) (string, error) {
		resp, err := c.Put(ctx, &echov1.PutRequest{Key: "key", Value: "value"})
		return resp.GetInstanceId(), err
	},
	"add": func(ctx context.Context, c echov1.EchoClient) (string, error) {
		resp, err := c.Add(ctx, &echov1.AddRequest{Key: "key", Amount: 1})
		return resp.GetInstanceId(), err
	},
	"stream": stream,
}

func methodNames() []string { return slices.Sorted(maps.Keys(methods)) }

// stream receives a few messages; the call is good when all have come.
func stream(ctx context.Context, c echov1.EchoClient) (instance string, err error) {
	const count = 3
	messages, err := c.Stream(ctx, &echov1.StreamRequest{Message: "message", Count: count})
	for err == nil {
		var resp *echov1.StreamResponse
		if resp, err = messages.Recv(); err == nil {
			instance = resp.GetInstanceId()
		}
	}
	if errors.Is(err, io.EOF) {
		return instance, nil
	}
	return "", err
}

// client makes the calls.
type client struct {
	registry io.Closer // nil if the target needs none
	config   follower
	conn     *grpc.ClientConn
	call     func() (instance string, err error)
}

func dial(cfg config, stats *stats) (*client, error) {
	logger := cli.Logger(cfg.verbose, slog.LevelWarn)
	c := &client{}
	opts := dialOptions(cfg, stats, logger)
	if cfg.discovers() {
		reg, err := httpregistry.New(cfg.registries, httpregistry.WithEnv(cfg.env),
			httpregistry.WithPollInterval(cfg.poll), httpregistry.WithLogger(logger))
		if err != nil {
			return nil, cli.Usage(err)
		}
		c.registry = reg
		if err := c.config.follow(cfg.serviceConfig, logger); err != nil {
			return nil, errors.Join(cli.Usage(err), c.close())
		}
		opts = append(opts, grpc.WithResolvers(resolver.NewBuilder(reg, resolver.WithLogger(logger), resolver.WithServiceConfig(&c.config.ServiceConfig))))
		opts = append(opts, resolver.DialOptions()...)
	}
	conn, err := grpc.NewClient(cfg.target, opts...)
	if err != nil {
		return nil, errors.Join(cli.Usage(err), c.close())
	}
	c.conn = conn
	c.call = caller(cfg, echov1.NewEchoClient(conn))
	return c, nil
}

// caller returns what makes one call of the method, within the time allowed.
func caller(cfg config, echo echov1.EchoClient) func() (string, error) {
	method := methods[cfg.method]
	return func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), cfg.timeout)
		defer cancel()
		return method(ctx, echo)
	}
}

// dialOptions are a client's with rollcall: the policy in the service config and
// the fail mode among the interceptors.
func dialOptions(cfg config, stats *stats, logger *slog.Logger) []grpc.DialOption {
	fail := []failmode.Option{
		failmode.WithMaxAttempts(cfg.attempts),
		failmode.WithPerAttemptTimeout(cfg.perAttemptTimeout),
		failmode.WithBudget(cfg.retryBudget, 10),
		failmode.WithObserver(func(e failmode.AttemptEvent) {
			if e.Err == nil {
				stats.attempt("")
			} else {
				stats.attempt(e.Class.String())
			}
		}),
	}
	if cfg.hedge > 0 {
		fail = append(fail, failmode.WithHedging(cfg.hedge))
	}
	unary := []grpc.UnaryClientInterceptor{failmode.UnaryClientInterceptor(cfg.mode, fail...)}
	stream := []grpc.StreamClientInterceptor{failmode.StreamClientInterceptor(cfg.mode, fail...)}
	if cfg.verbose {
		log := logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
			logger.Log(ctx, slog.Level(level), msg, fields...)
		})
		unary = append([]grpc.UnaryClientInterceptor{logging.UnaryClientInterceptor(log)}, unary...)
		stream = append([]grpc.StreamClientInterceptor{logging.StreamClientInterceptor(log)}, stream...)
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig(cfg.policy)),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(cfg.waitForReady)),
		grpc.WithChainUnaryInterceptor(unary...),
		grpc.WithChainStreamInterceptor(stream...),
	}
}

// warmUp connects for so long before there are calls, so that none finds half of
// the instances connected.
func (c *client) warmUp(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	c.conn.Connect()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// close waits until nothing of the client runs any more.
func (c *client) close() error {
	var errs []error
	if c.conn != nil {
		errs = append(errs, c.conn.Close())
	}
	c.config.close()
	if c.registry != nil {
		errs = append(errs, c.registry.Close())
	}
	return errors.Join(errs...)
}
