package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/rollcall-go/rollcall/examples/internal/cli"
	"github.com/rollcall-go/rollcall/registry"
)

const about = `echo-server serves the Echo service and registers it, until SIGTERM or SIGINT.`

// config is what the flags say.
type config struct {
	registries                                           []string
	env, service, id, zone, version                      string
	listen, advertise                                    string
	weight                                               uint32
	drainDelay, graceTimeout, registerTimeout, heartbeat time.Duration
	background                                           bool
	latency                                              time.Duration
	fail                                                 failure
	stats                                                string
	verbose                                              bool
}

func parseFlags(args []string, help io.Writer) (config, error) {
	c := config{weight: 1}
	flags := cli.NewFlags("echo-server", about)
	registries := flags.String("registry", cli.DefaultRegistry, "`addresses` of the registry's nodes, host:port[,host:port]")
	flags.StringVar(&c.env, "env", cli.DefaultEnv, "the environment to register in")
	flags.StringVar(&c.service, "service", cli.DefaultService, "the name that clients resolve")
	flags.StringVar(&c.id, "id", "", "the `ID` of this instance, unique in the service (default the host's name and a random part)")
	flags.StringVar(&c.listen, "listen", "127.0.0.1:0", "the `address` to listen on; port 0 takes a free one")
	flags.StringVar(&c.advertise, "advertise", "", "the `host:port` that clients dial (default the listener's)")
	flags.Func("weight", "the share of traffic relative to the other instances, a `number` from 1 (default 1)", func(s string) (err error) {
		c.weight, err = parseWeight(s)
		return err
	})
	flags.StringVar(&c.zone, "zone", "", "the zone this instance runs in")
	flags.StringVar(&c.version, "version", "", "the version of the service")
	flags.DurationVar(&c.drainDelay, "drain-delay", 7*time.Second, "how long to serve on after leaving the registry, so that polling clients notice")
	flags.DurationVar(&c.graceTimeout, "grace-timeout", 15*time.Second, "how long calls in hand may take to finish after that")
	flags.DurationVar(&c.registerTimeout, "register-timeout", 10*time.Second, "how long to try to register before giving up with exit code 1")
	flags.BoolVar(&c.background, "register-in-background", false, "serve meanwhile and never give up")
	flags.DurationVar(&c.heartbeat, "heartbeat", 30*time.Second, "how often to renew the registration")
	flags.DurationVar(&c.latency, "latency", 0, "how long a call takes")
	flags.Func("fail", "let calls fail with `CODE[:share]`, as in Unavailable or NOT_FOUND:0.1; "+panics+" panics, "+hangs+" never returns, "+
		closingDownstream+" relays the refusal of a closing downstream", func(s string) (err error) {
		c.fail, err = parseFailure(s)
		return err
	})
	flags.StringVar(&c.stats, "stats", "", "a `file` for the executions of each method as JSON, kept up to date and final at exit")
	flags.BoolVar(&c.verbose, "v", false, "log every call and all details")
	if err := flags.Read(args, help); err != nil {
		return config{}, err
	}
	c.registries = cli.List(*registries)
	return c, c.validate()
}

func (c config) validate() error {
	switch {
	case c.service == "":
		return cli.Usagef("-service is empty: give the name that clients resolve")
	case c.advertise != "" && registry.ValidateAddr(c.advertise) != nil:
		return cli.Usagef("-advertise: %v", registry.ValidateAddr(c.advertise))
	case c.latency < 0:
		return cli.Usagef("-latency %v is negative", c.latency)
	case c.drainDelay < 0 || c.graceTimeout < 0:
		return cli.Usagef("-drain-delay %v and -grace-timeout %v must not be negative", c.drainDelay, c.graceTimeout)
	case c.registerTimeout <= 0:
		return cli.Usagef("-register-timeout %v must be positive", c.registerTimeout)
	}
	return nil
}

func parseWeight(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, errors.New(fmt.Sprint("a weight is a whole number from 1 to ", uint32(math.MaxUint32)))
	}
	return uint32(n), nil
}
