package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/rollcall-go/rollcall/resolver"
)

// follower is a service config that is what a file says, if there is one.
type follower struct {
	resolver.ServiceConfig
	cancel    context.CancelFunc // nil without a file
	following sync.WaitGroup
}

// follow follows the file until close, unless path is empty. What is wrong with the
// file at first is an error; later it is logged.
func (f *follower) follow(path string, logger *slog.Logger) error {
	if path == "" {
		return nil
	}
	if err := f.SetFile(path); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.following.Go(func() {
		f.FollowFile(ctx, path, func(err error) { logger.Warn("the service config stays as it was", "err", err) })
	})
	return nil
}

func (f *follower) close() {
	if f.cancel != nil {
		f.cancel()
	}
	f.following.Wait()
}
