package resolver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/internal/backoff"
)

// ServiceConfig is a gRPC service config that can be replaced while channels use
// it: see WithServiceConfig. It is safe for concurrent use. The zero ServiceConfig
// is none yet.
type ServiceConfig struct {
	mu      sync.Mutex // guards all below; nothing is called under it
	js      string
	changed chan struct{} // closed when js is replaced; nil until somebody waits for that
}

// Set puts js in force on all channels that use c. It is a whole service config in
// JSON, as balancer.ServiceConfig returns it; nothing of the last one stays. If
// gRPC refuses it, Set returns the reason and the last one stays in force.
func (c *ServiceConfig) Set(js string) error {
	if now, _ := c.current(); js == now && js != "" {
		return nil
	}
	if err := validateServiceConfig(js); err != nil {
		return fmt.Errorf("resolver: gRPC refuses the service config: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.js = js
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
	return nil
}

// validateServiceConfig asks gRPC, which tells nobody but a channel.
func validateServiceConfig(js string) error {
	conn, err := grpc.NewClient("passthrough:///", grpc.WithDefaultServiceConfig(js), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "grpc: the provided default service config is invalid: "))
	}
	return conn.Close()
}

// current returns the config, "" if there is none yet, and what is closed when
// there is another.
func (c *ServiceConfig) current() (js string, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.js, c.changed
}

// SetFile is Set with what is in the file.
func (c *ServiceConfig) SetFile(path string) error {
	js, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("resolver: service config: %w", err)
	}
	if err := c.Set(string(js)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// fileInterval is how often FollowFile reads the file: soon enough for people who
// look what their change does, and nothing to a machine.
const fileInterval = time.Second

// FollowFile is SetFile, at once and within a second of every change, until ctx
// ends. Where SetFile fails, failed is called with the reason, once until that
// changes, and the last good config stays in force.
func (c *ServiceConfig) FollowFile(ctx context.Context, path string, failed func(error)) {
	for reported := ""; ; {
		err := c.SetFile(path)
		if text := fmt.Sprint(err); text != reported {
			if reported = text; err != nil {
				failed(err)
			}
		}
		if backoff.Wait(ctx, fileInterval) != nil {
			return
		}
	}
}
