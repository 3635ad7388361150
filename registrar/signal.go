package registrar

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
)

// Run is r.Serve for a program that leaves its signals to it. The first SIGINT,
// SIGTERM, SIGHUP or SIGQUIT begins the closing sequence, the second one stops
// hard, unless it is the same within 100 ms; on Windows os.Interrupt does. The
// third one is left to the system, which ends the process, whatever hangs. A
// signal that was ignored when the program was started, as nohup does with
// SIGHUP, stays ignored.
func Run(ctx context.Context, r *Registrar, srv *grpc.Server, lis net.Listener) error {
	signals := make(chan os.Signal, 4)              // two that matter, and the echo of each
	if wanted := wantedSignals(); len(wanted) > 0 { // none would be all to Notify
		signal.Notify(signals, wanted...)
	}
	return r.serveUntil(ctx, signals, srv, lis)
}

// serveUntil is Serve until a signal comes, or ctx ends.
func (r *Registrar) serveUntil(ctx context.Context, signals chan os.Signal, srv *grpc.Server, lis net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		stops := []func(os.Signal){
			func(s os.Signal) { cancel(fmt.Errorf("signal: %s", s)) },
			func(os.Signal) {
				defer time.AfterFunc(echo, func() { signal.Stop(signals) }).Stop()
				r.Stop()
			},
		}
		for s := range inTurn(signals, ended) {
			r.opts.logger.Info("registrar: signal", slog.String("signal", s.String()))
			stops[0](s)
			if stops = stops[1:]; len(stops) == 0 {
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

// echo is how soon the same signal comes again without anybody having sent a
// second one: timeout(1) and some supervisors signal a process and then the group
// that it is in.
const echo = 100 * time.Millisecond

// inTurn yields signals without their echoes until ended is closed.
func inTurn(signals <-chan os.Signal, ended <-chan struct{}) iter.Seq[os.Signal] {
	return func(yield func(os.Signal) bool) {
		var last os.Signal
		var at time.Time
		for {
			select {
			case s := <-signals:
				if s == last && time.Since(at) < echo {
					continue
				}
				if last, at = s, time.Now(); !yield(s) {
					return
				}
			case <-ended:
				return
			}
		}
	}
}

func wantedSignals() []os.Signal {
	return slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}, signal.Ignored)
}
