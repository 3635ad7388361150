package registrar

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"google.golang.org/grpc"
)

// Run is r.Serve for a program that leaves its signals to it. The first SIGINT,
// SIGTERM, SIGHUP or SIGQUIT begins the closing sequence, the second one stops
// hard; on Windows os.Interrupt does. A signal that was ignored when the program
// was started, as nohup does with SIGHUP, stays ignored.
func Run(ctx context.Context, r *Registrar, srv *grpc.Server, lis net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2) // one for each that matters
	signal.Notify(signals, wantedSignals()...)
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		stop := func(s os.Signal) { cancel(fmt.Errorf("signal: %s", s)) }
		for range 2 {
			select {
			case s := <-signals:
				r.opts.logger.Info("registrar: signal", slog.String("signal", s.String()))
				stop(s)
				stop = func(os.Signal) { r.Stop() }
			case <-ended:
				return
			}
		}
	})
	defer func() {
		signal.Stop(signals)
		close(ended)
		watching.Wait()
		cancel(nil)
	}()
	return r.Serve(ctx, srv, lis)
}

func wantedSignals() []os.Signal {
	return slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}, signal.Ignored)
}
