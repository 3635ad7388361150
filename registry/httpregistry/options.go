package httpregistry

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rollcall-go/rollcall/registry"
)

// Option changes what New does without it. Each says the default.
type Option func(*config)

type config struct {
	env, registryEnv string
	client           *http.Client // nil: our own
	timeout          time.Duration
	poll             time.Duration
	heartbeat, lease time.Duration
	maxResponse      int64
	log              *slog.Logger
}

func defaults() config {
	return config{
		env:       "dev",
		timeout:   2 * time.Second,
		poll:      5 * time.Second,
		heartbeat: 30 * time.Second, // the registry counts two a minute per instance
		lease:     90 * time.Second, // after which the registry drops what does not beat
		// 327 bytes an instance and as much again in its address: 20,000 of them.
		maxResponse: 16 << 20,
		log:         slog.New(slog.DiscardHandler),
	}
}

// WithEnv sets the environment that instances are registered and looked up in;
// default "dev". It must not be empty or contain '-': the registry glues
// service and environment together with one, so "a-b" in "c" and "a" in "b-c"
// would share their instances there.
func WithEnv(env string) Option { return func(c *config) { c.env = env } }

// WithRegistryEnv sets the environment that the registry's own nodes are
// configured with, which is where they list each other; default: that of
// WithEnv. With a wrong one everything works but the list is never found: only
// the configured nodes are used.
func WithRegistryEnv(env string) Option { return func(c *config) { c.registryEnv = env } }

// WithHTTPClient sets what carries the requests, for TLS settings, a proxy or
// tracing. It is copied; redirects are followed by neither, and Close leaves its
// idle connections alone. The default is a transport of the Client's own that
// uses no proxy, whatever HTTP_PROXY says: registry nodes are neighbours.
func WithHTTPClient(client *http.Client) Option { return func(c *config) { c.client = client } }

// WithTimeout bounds one request to one node, from dialling to the last byte;
// default 2 s.
func WithTimeout(d time.Duration) Option { return func(c *config) { c.timeout = d } }

// WithPollInterval sets how often a watched service is looked up, give or take
// 10 %; default 5 s. It also bounds the backoff of nodes that do not answer.
func WithPollInterval(d time.Duration) Option { return func(c *config) { c.poll = d } }

// WithHeartbeat sets how often a registration is renewed, give or take 10 %;
// default 30 s. Keep it: the registry reckons with two a minute. Fewer look like
// an outage to it, and it stops expiring the dead; more hide one.
func WithHeartbeat(d time.Duration) Option { return func(c *config) { c.heartbeat = d } }

// WithLease sets how long the registry keeps what does not beat; default 90 s.
// It is how long a doubtful answer must hold to be believed.
func WithLease(d time.Duration) Option { return func(c *config) { c.lease = d } }

// WithMaxResponse caps the size of one answer in bytes; default 16 MiB, good for
// 20,000 instances. A larger one counts as a failure of the node.
func WithMaxResponse(bytes int64) Option { return func(c *config) { c.maxResponse = bytes } }

// WithLogger sets where changes are told: nodes failing and coming back, answers
// doubted and believed, entries left out, registrations lost and regained.
// Default: nowhere.
func WithLogger(log *slog.Logger) Option { return func(c *config) { c.log = log } }

func newConfig(opts []Option) (config, error) {
	c := defaults()
	for _, opt := range opts {
		opt(&c)
	}
	if c.registryEnv == "" {
		c.registryEnv = c.env
	}
	return c, c.validate()
}

func (c config) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("httpregistry: %w: %w", registry.ErrInvalid, fmt.Errorf(format, args...)))
	}
	switch {
	case c.env == "":
		bad("env is empty: give the environment that instances live in, such as %q", "prod")
	case strings.Contains(c.env, "-"):
		bad("env %q contains '-', which the registry separates service and environment with: use another character, such as '_'", c.env)
	case !utf8.ValidString(c.env):
		bad("env %q is not UTF-8", c.env)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"timeout", c.timeout}, {"poll interval", c.poll}, {"heartbeat", c.heartbeat}, {"lease", c.lease}} {
		if d.value <= 0 {
			bad("%s is %v: it must be positive", d.name, d.value)
		}
	}
	if c.heartbeat >= c.lease && c.heartbeat > 0 {
		bad("heartbeat %v is not shorter than the lease %v: the instance would expire between two beats", c.heartbeat, c.lease)
	}
	if c.maxResponse <= 0 {
		bad("the largest answer is %d bytes: it must be positive", c.maxResponse)
	}
	if c.log == nil {
		bad("the logger is nil: leave WithLogger out to log nothing")
	}
	return errors.Join(errs...)
}
