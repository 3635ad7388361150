package failmode

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
	"github.com/rollcall-go/rollcall/internal/backoff"
)

// config is the settings of an interceptor or of one call.
type config struct {
	mode       Mode
	attempts   int
	backoff    backoff.Policy
	timeout    time.Duration
	codes      attempt.Codes
	observe    func(attempt.Event)
	idempotent func(method string) bool
	methods    *methods
	budgets    *attempt.Budgets
	shared     *attempt.Methods // by calls, with the budgets
	hedging    *attempt.Hedging
	logger     *slog.Logger
	warned     *sync.Once
	policy     attempt.Policy // made of all the above
	plain      bool           // the policy is, and the mode wants nothing else
}

func newConfig(mode Mode, opts []Option) *config {
	c := &config{
		mode: mode, attempts: defaultAttempts,
		backoff: backoff.Policy{Base: defaultBackoff, Max: defaultMaxBackoff},
		budgets: attempt.NewBudgets(defaultBudgetRatio, defaultBudgetPerSecond),
		methods: newMethods(), warned: new(sync.Once),
	}
	c.idempotent = c.methods.idempotent
	for _, o := range opts {
		o.apply(c)
	}
	c.shared = attempt.NewMethods(c.budgets)
	c.build()
	return c
}

func (c *config) build() {
	c.policy = attempt.Policy{
		Max: max(c.attempts, 1), Backoff: c.backoff, Timeout: c.timeout, Idempotent: c.idempotent, Codes: c.codes,
		Methods: c.shared, Observe: c.observe,
	}
	if c.logger != nil {
		c.policy.Stacked = c.warn
	}
	switch c.mode {
	case Failretry, Broadcast:
		c.policy.Same = true
	case Failover:
		c.policy.Hedging = c.hedging
	case Forking:
		c.policy.Hedging = &attempt.Hedging{All: true}
	default:
		c.policy.Max = 1
	}
	c.plain = c.policy.Plain() && c.mode != Broadcast && c.mode != Failsafe
}

// warn says once that another layer retries, too.
func (c *config) warn(method, layer string) {
	c.warned.Do(func() {
		c.logger.Warn("failmode: two layers retry: they make all attempts together; leave it to one of them",
			"layer", fmt.Sprintf("failmode %v, %d attempts", c.mode, c.policy.Max), "other", layer, "method", method)
	})
}

// forCall returns the settings of a call with these options.
func (c *config) forCall(opts []grpc.CallOption) *config {
	own := c
	for _, opt := range opts {
		o, ok := opt.(CallOption)
		if !ok {
			continue
		}
		if own == c {
			own = new(config)
			*own = *c
		}
		o.apply(own)
	}
	if own != c {
		own.build()
	}
	return own
}
