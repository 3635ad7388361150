// Command echo-client calls the Echo service at a steady rate and shows who
// served the calls. Its last line of output is one JSON object with the counts.
//
//	echo-client -registry 127.0.0.1:6666 -service echo -policy weighted_round_robin -rps 1000 -duration 30s
//
// The load is an open loop: calls start on schedule whatever happens to those
// before them, and their latency counts from the moment they should have
// started, so that a server which stalls cannot hide it. The first SIGINT or
// SIGTERM ends the run and prints the result so far, the second ends the
// program.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/rollcall-go/rollcall/examples/internal/cli"
)

func main() { cli.Main("echo-client", run) }

func run(args []string, stdout io.Writer) error {
	cfg, err := parseFlags(args, stdout)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal is not ours

	display := newDisplay(stdout, cfg.json)
	stats := newStats(display.firstError)
	client, err := dial(cfg, stats)
	if err != nil {
		return err
	}
	client.warmUp(ctx, cfg.warmUp)
	stats.restart()
	display.watch(stats, func() {
		load{
			rate: cfg.rps, duration: cfg.duration, maxInFlight: cfg.maxInFlight,
			call: func(scheduled time.Time) {
				instance, err := client.call()
				stats.done(instance, err, time.Since(scheduled))
			},
			drop: stats.dropped,
		}.run(ctx)
	})
	return errors.Join(client.close(), printReport(stdout, stats.report(), cfg.json))
}

// printReport prints a summary for people, unless told to be quiet, and then the
// report as one line of JSON.
func printReport(out io.Writer, r report, quiet bool) error {
	if !quiet {
		summarize(out, r)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, string(line))
	return err
}
