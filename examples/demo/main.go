// Command demo shows what rollcall is for in less than a minute: a registry,
// three servers of different weights and a client that calls them by name, while
// the servers are restarted one after another and one of them is killed. It ends
// with a verdict, and with exit code 1 if a call failed that should not have.
//
//	make demo
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/rollcall-go/rollcall/examples/internal/cli"
)

func main() { cli.Main("demo", run) }

const about = `demo runs a registry, three servers and a client, restarts the servers one
after another under load, kills one, and says how many calls failed.`

// limit is how long the demo may take; it takes about half of that.
const limit = 55 * time.Second

func run(args []string, stdout io.Writer) error {
	flags := cli.NewFlags("demo", about)
	bin := flags.String("bin", "bin", "the `directory` with the programs, as make build fills it")
	rps := flags.Int("rps", 1000, "calls per second")
	if err := flags.Read(args, stdout); err != nil {
		return err
	}
	if *rps < 1 {
		return cli.Usagef("-rps %d must be at least 1", *rps)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the demo took longer than %v", limit))
	defer cancel()

	system := newSystem(ctx, *bin, stdout)
	defer system.close()
	results, err := play(system, *rps)
	if err != nil {
		return cmp.Or(context.Cause(ctx), err) // what an interruption breaks is not why
	}
	return verdict(stdout, results)
}
