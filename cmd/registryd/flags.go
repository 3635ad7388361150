package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/rollcall-go/rollcall/registry/registryserver"
)

// defaultListen is the port that the API's servers have always used, on the
// loopback: to open the registry to others is to be a decision.
const defaultListen = "127.0.0.1:6666"

// flags is what the command line says.
type flags struct {
	set *flag.FlagSet

	listen, env, name, advertise string
	maxBody                      int64
	expiry                       registryserver.Expiry
	logLevel                     slog.Level
}

// parse reads the command line. With flag.ErrHelp, and only then, the flags
// are there to call usage on.
func parse(args []string) (*flags, error) {
	f := &flags{set: flag.NewFlagSet("registryd", flag.ContinueOnError), expiry: registryserver.DefaultExpiry()}
	f.define()
	f.set.SetOutput(io.Discard) // run says what is wrong
	if err := f.set.Parse(args); err != nil {
		return f, err
	}
	if f.set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: everything is a flag", f.set.Arg(0))
	}
	return f, nil
}

func (f *flags) define() {
	set, exp := f.set, &f.expiry
	set.StringVar(&f.listen, "listen", defaultListen, "`host:port` to listen on; port 0 takes a free one")
	set.StringVar(&f.env, "env", "dev", "environment the node itself belongs to; instances of all are served")
	set.StringVar(&f.name, "name", "", "name of the node in /api/nodes (default the machine's host name)")
	set.StringVar(&f.advertise, "advertise", "", "`host:port` that /api/nodes tells clients\n(default -listen, or for a wildcard the address this machine's traffic leaves from)")
	set.Int64Var(&f.maxBody, "max-body", registryserver.DefaultMaxBody, "largest request body that is read, in `bytes`")
	f.duration(&exp.Lease, "lease", "silence after which an instance expires")
	f.duration(&exp.HardLease, "hard-lease", "silence after which it expires even under self-protection")
	f.duration(&exp.Tick, "tick", "how often expiry is looked at")
	f.duration(&exp.Interval, "interval", "how often instances are expected to renew")
	set.Float64Var(&exp.Threshold, "threshold", exp.Threshold, "`share` of the expected renewals below which the registry protects itself; 0 is never")
	set.Func("log-level", "least `level` that is logged to standard error: debug, info, warn or error (default info);\ninfo has a line for each instance that comes, goes or expires, warn only self-protection", func(value string) error {
		if f.logLevel.UnmarshalText([]byte(value)) != nil {
			return errors.New("give debug, info, warn or error")
		}
		return nil
	})
}

// duration defines a flag whose value is already the default.
func (f *flags) duration(p *time.Duration, name, usage string) {
	f.set.Func(name, fmt.Sprintf("%s, a `duration` (default %v)", usage, *p), func(value string) (err error) {
		if *p, err = time.ParseDuration(value); err != nil {
			return errors.New("give a duration, such as 90s or 1h30m")
		}
		return nil
	})
}

func (f *flags) usage(to io.Writer) {
	_, _ = fmt.Fprint(to, "Registryd is a registry node of the service_discovery HTTP API, in memory.\n\nUsage: registryd [flags]\n\n")
	f.set.SetOutput(to)
	f.set.PrintDefaults()
}
