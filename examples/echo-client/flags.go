package main

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/balancer"
	"github.com/rollcall-go/rollcall/examples/internal/cli"
	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/resolver"
)

const about = `echo-client calls the Echo service at a steady rate and shows who served the
calls, once a second; its last line is one JSON object with the counts.

The service is found by -registry, -env and -service, or by -target: one that
starts with discovery:/// is looked up in the registry of -registry and -env and
can have options, as in discovery:///echo?zone=a; any other gRPC target, such as
dns:///localhost:9000, needs no registry.`

// maxRate is the highest -rps: more than a machine can do, so that a typing
// error is not taken for a wish.
const maxRate = 1e6

// defaultRetryBudget lets every call move once, also when one of three servers
// always fails, which the library's default does not: nothing here takes such a
// server out, and this program is for watching the modes.
const defaultRetryBudget = 1

// config is what the flags say.
type config struct {
	registries                 []string
	env, service, target       string
	poll                       time.Duration
	policy                     balancer.Picker
	serviceConfig              string
	mode                       failmode.Mode
	attempts                   int
	retryBudget                float64
	perAttemptTimeout, timeout time.Duration
	hedge                      time.Duration
	method                     string
	waitForReady               bool
	rps                        float64
	warmUp, duration           time.Duration
	maxInFlight                int
	json, verbose              bool
}

func parseFlags(args []string, help io.Writer) (config, error) {
	c := config{policy: balancer.WeightedRoundRobin{}, mode: failmode.Failover}
	flags := cli.NewFlags("echo-client", about)
	registries := flags.String("registry", cli.DefaultRegistry, "`addresses` of the registry's nodes, host:port[,host:port]")
	flags.StringVar(&c.env, "env", cli.DefaultEnv, "the environment to look in")
	flags.StringVar(&c.service, "service", cli.DefaultService, "the service to call")
	flags.StringVar(&c.target, "target", "", "a gRPC `target` to call instead of -service")
	flags.DurationVar(&c.poll, "poll", 5*time.Second, "how often to look for changes in the registry")
	flags.Func("policy", "the `name` of how an instance is chosen: weighted_round_robin (the default), round_robin, random, p2c or least_request", func(s string) (err error) {
		c.policy, err = balancer.ParsePicker(s)
		return err
	})
	flags.StringVar(&c.serviceConfig, "service-config", "", "a `file` with a gRPC service config to use instead of -policy, and to read again when it changes")
	flags.Func("fail-mode", "the `name` of what follows a failed attempt: nothing (failfast), the same instance again (failretry) or another one (failover); or forking, broadcast or failsafe (default failover)", func(s string) (err error) {
		c.mode, err = failmode.ParseMode(s)
		return err
	})
	flags.IntVar(&c.attempts, "attempts", 3, "the most attempts of one call, for all modes but failfast and failsafe")
	flags.Float64Var(&c.retryBudget, "retry-budget", defaultRetryBudget, "the most extra attempts as a `share` of the calls, besides ten a second; the library's default is 0.2")
	flags.DurationVar(&c.perAttemptTimeout, "per-attempt-timeout", 0, "how long one attempt may take; 0 for as long as the call")
	flags.DurationVar(&c.timeout, "timeout", time.Second, "how long a call may take (its deadline)")
	flags.DurationVar(&c.hedge, "hedge", 0, "after how long without an answer to ask a second instance as well, for failover and idempotent methods; 0 for never")
	flags.StringVar(&c.method, "method", "get", "what to call: "+strings.Join(methodNames(), ", "))
	flags.BoolVar(&c.waitForReady, "wait-for-ready", false, "let calls wait for an instance to be there, up to their deadline")
	flags.Float64Var(&c.rps, "rps", 100, "calls per second")
	flags.DurationVar(&c.warmUp, "warm-up", 0, "how long to connect before the first call")
	flags.DurationVar(&c.duration, "duration", 10*time.Second, "how long to start calls for; 0 until SIGINT or SIGTERM")
	flags.IntVar(&c.maxInFlight, "max-in-flight", 10000, "the most calls at a time; those that would be more are not made and count as failed")
	flags.BoolVar(&c.json, "json", false, "print only the line of JSON")
	flags.BoolVar(&c.verbose, "v", false, "log every call and all details")
	if err := flags.Read(args, help); err != nil {
		return config{}, err
	}
	if flags.Given("target") && flags.Given("service") {
		return config{}, cli.Usagef("-service %s and -target %s both say what to call: give one of them", c.service, c.target)
	}
	if flags.Given("policy") && c.serviceConfig != "" {
		return config{}, cli.Usagef("-policy and -service-config %s both say how to balance: give one of them", c.serviceConfig)
	}
	c.registries = cli.List(*registries)
	if err := c.validate(); err != nil {
		return config{}, err
	}
	return c, c.setTarget(flags.Given("target"))
}

func (c config) validate() error {
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{"-duration", c.duration}, {"-warm-up", c.warmUp}, {"-per-attempt-timeout", c.perAttemptTimeout}, {"-hedge", c.hedge}} {
		if d.value < 0 {
			return cli.Usagef("%s %v is negative", d.flag, d.value)
		}
	}
	switch {
	case c.timeout <= 0:
		return cli.Usagef("-timeout %v must be positive", c.timeout)
	case !(c.rps > 0 && c.rps <= maxRate):
		return cli.Usagef("-rps %v must be more than 0 and at most %v", c.rps, maxRate)
	case c.attempts < 1:
		return cli.Usagef("-attempts %d must be at least 1", c.attempts)
	case !(c.retryBudget >= 0):
		return cli.Usagef("-retry-budget %v must not be negative", c.retryBudget)
	case c.maxInFlight < 1:
		return cli.Usagef("-max-in-flight %d must be at least 1", c.maxInFlight)
	case !slices.Contains(methodNames(), c.method):
		return cli.Usagef("unknown method %q: the methods are %s", c.method, strings.Join(methodNames(), ", "))
	}
	return nil
}

// setTarget makes -target of -service unless it was given.
func (c *config) setTarget(given bool) error {
	switch {
	case given && c.target == "":
		return cli.Usagef("-target is empty: give a gRPC target such as %s:///echo", resolver.Scheme)
	case given && !c.discovers() && c.serviceConfig != "":
		return cli.Usagef("-service-config needs a target that is looked up in a registry, such as %s:///echo", resolver.Scheme)
	case given && !c.discovers():
		return nil
	case !given && c.service == "":
		return cli.Usagef("-service is empty: give the name of the service to call")
	case !given:
		u := url.URL{Scheme: resolver.Scheme, Path: "/" + c.service}
		c.target = u.String()
	}
	if err := resolver.ValidateTarget(c.target); err != nil {
		return cli.Usage(fmt.Errorf("-target: %w", err))
	}
	return nil
}

// discovers says whether the target is looked up in a registry.
func (c config) discovers() bool { return strings.HasPrefix(c.target, resolver.Scheme+":") }
