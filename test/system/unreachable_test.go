package system

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/resolver"
)

// For an hour no instance can be reached; when they can be again, they are called
// as soon as if the registry had said so.
func TestInstancesAreReachedAgain(t *testing.T) {
	for name, lost := range map[string]func(ctx context.Context, sent int) error{
		"connections are refused": func(context.Context, int) error { return errors.New("connection refused") },
		"packets are lost": func(ctx context.Context, sent int) error {
			select {
			case <-time.After(time.Second << sent): // and TCP sends another one
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.start(registry.Instance{ID: "a"})
				w.start(registry.Instance{ID: "b"})
				var down atomic.Bool
				down.Store(true)
				dial := func(ctx context.Context, addr string) (net.Conn, error) {
					for sent := 0; down.Load(); sent++ {
						if err := lost(ctx, sent); err != nil {
							return nil, err
						}
					}
					return w.Network.Dial(ctx, addr)
				}
				conn := w.dialTarget(target, append(resolver.DialOptions(), grpc.WithContextDialer(dial), grpc.WithIdleTimeout(0))...)
				time.Sleep(time.Hour)
				down.Store(false)
				time.Sleep(poll)
				testenv.Shares(t, conn, 10)
			})
		})
	}
}
