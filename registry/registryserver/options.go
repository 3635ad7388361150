package registryserver

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// DefaultMaxBody is how many bytes of a request body are read without
// WithMaxBody. Ordinary bodies are below 1 kB; the API has always taken 10 MB.
const DefaultMaxBody = 16 << 20

// Option changes what New builds.
type Option func(*config)

type config struct {
	env, nodeName, advertise string
	maxBody                  int64
	expiry                   Expiry
	logger                   *slog.Logger
}

// WithEnv sets the environment that the node registers itself in, which is the
// one /api/nodes answers for; "dev" if not given. Instances of every
// environment are served whatever it is. It must not be empty, nor contain '-',
// by which other servers of the API get confused.
func WithEnv(env string) Option { return func(c *config) { c.env = env } }

// WithNodeName sets the name the node registers itself under; the machine's
// host name if not given.
func WithNodeName(name string) Option { return func(c *config) { c.nodeName = name } }

// WithAdvertise sets the host:port that /api/nodes gives to clients. If not
// given, the first Serve advertises what it listens on; a Server that is only
// used as an http.Handler advertises nothing, and /api/nodes knows no node.
func WithAdvertise(addr string) Option { return func(c *config) { c.advertise = addr } }

// WithMaxBody sets how many bytes of a request body are read; DefaultMaxBody if
// not given. A request with more is refused like one that is not JSON.
func WithMaxBody(bytes int64) Option { return func(c *config) { c.maxBody = bytes } }

// WithExpiry sets when silent instances are dropped; DefaultExpiry if not given.
func WithExpiry(e Expiry) Option { return func(c *config) { c.expiry = e } }

// WithLogger sets who is told of changes (instances that come, go and expire,
// self-protection); nobody if not given. Requests are not logged.
func WithLogger(l *slog.Logger) Option { return func(c *config) { c.logger = l } }

// Expiry says when an instance that has stopped renewing is dropped.
//
// Every Tick the registry compares the renewals since the last one with those
// it expects, one per instance (its own entry included) and Interval. With
// fewer than Threshold of them it takes itself for the one that is cut off and
// protects what it has: only HardLease counts then, otherwise Lease. However
// many have run out, one tick drops at most 1-Threshold of all instances,
// chosen at random. So with N instances, all others renewing, no more than
// ⌊(2N-⌊1.7N⌋)/2⌋ can die at once and still expire by Lease (default values:
// none of 3, 1 of 10, 15 of 100).
type Expiry struct {
	Lease     time.Duration // silence after which an instance expires
	HardLease time.Duration // silence after which it expires even under self-protection
	Tick      time.Duration // how often expiry is looked at
	Interval  time.Duration // how often an instance is expected to renew
	Threshold float64       // share of the expected renewals below which the registry protects itself; 0 never, at most 1
}

// DefaultExpiry is what all servers of the API use.
func DefaultExpiry() Expiry {
	return Expiry{
		Lease:     90 * time.Second,
		HardLease: time.Hour,
		Tick:      time.Minute,
		Interval:  30 * time.Second,
		Threshold: 0.85,
	}
}

// Validate says what is wrong with e: every duration must be positive,
// HardLease at least Lease, Lease longer than Interval (or instances that keep
// time would expire) and Threshold from 0 to 1.
func (e Expiry) Validate() error {
	switch {
	case min(e.Lease, e.HardLease, e.Tick, e.Interval) <= 0:
		return fmt.Errorf("lease %v, hard lease %v, tick %v and interval %v must all be positive", e.Lease, e.HardLease, e.Tick, e.Interval)
	case e.Lease <= e.Interval:
		return fmt.Errorf("lease %v must be longer than the interval of renewals, %v", e.Lease, e.Interval)
	case e.HardLease < e.Lease:
		return fmt.Errorf("hard lease %v must be at least the lease, %v", e.HardLease, e.Lease)
	case !(e.Threshold >= 0 && e.Threshold <= 1): // also catches NaN
		return fmt.Errorf("threshold %v must be from 0 to 1", e.Threshold)
	}
	return nil
}

func newConfig(opts []Option) (config, error) {
	c := config{
		env:      "dev",
		nodeName: hostname(),
		maxBody:  DefaultMaxBody,
		expiry:   DefaultExpiry(),
		logger:   slog.New(slog.DiscardHandler),
	}
	for _, opt := range opts {
		opt(&c)
	}
	if err := c.validate(); err != nil {
		return config{}, fmt.Errorf("registryserver: %w", err)
	}
	return c, nil
}

func (c config) validate() error {
	switch {
	case c.env == "":
		return errors.New("env is empty: give a name such as dev or prod")
	case strings.Contains(c.env, "-"):
		return fmt.Errorf("env %q contains '-': use letters, digits or '_'", c.env)
	case c.nodeName == "":
		return errors.New("the node name is empty: give a name that is unique among the registry's nodes")
	case c.maxBody <= 0:
		return fmt.Errorf("the largest body of %d bytes must be positive", c.maxBody)
	case c.logger == nil:
		return errors.New("the logger is nil: leave the option out to log nothing")
	}
	if c.advertise != "" {
		if err := registry.ValidateAddr(c.advertise); err != nil {
			return fmt.Errorf("the advertised address cannot be dialled: %w", err)
		}
	}
	return c.expiry.Validate()
}

// hostname is the machine's, or a name that says there is none.
func hostname() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "registry"
}
