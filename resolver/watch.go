package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	// firstAnswer is how long calls wait for a registry that neither answers nor
	// fails. Long enough for a registry client to give up on a dead node or two,
	// short enough for a caller who set no deadline.
	firstAnswer = 5 * time.Second
	// hintSpacing is the least time between two Refreshes: gRPC calls ResolveNow
	// for every connection that breaks.
	hintSpacing = time.Second
)

// retry spaces attempts to watch, and the errors of a watcher that does not wait
// between them. Its Max is part of how soon calls work again.
var retry = backoff.Policy{Base: 100 * time.Millisecond, Max: time.Second}

// discovery resolves one target for one channel, from Build to Close.
type discovery struct {
	options
	reg    Registry
	target target
	rules  []rule
	log    *slog.Logger
	cc     gresolver.ClientConn

	cancel  context.CancelFunc
	running sync.WaitGroup
	hints   chan struct{} // holds at most one ResolveNow that waits to be passed on

	// Only the goroutine of run touches these.
	failures int       // since the last snapshot
	failed   time.Time // when the last one was

	// mu guards what the channel has been told. It is held while the channel is
	// told, which calls nothing of ours back, so that states are not reordered.
	mu       sync.Mutex
	config   *serviceconfig.ParseResult // nil: the channel's own
	told     *gresolver.State           // the last state; nil before the first one
	resolved bool                       // the last state came from an answer of the registry
	current  []registry.Instance        // the endpoints of the last state
	reported string                     // the error that came after that state, or the reason why it is empty
}

func start(b *builder, t target, cc gresolver.ClientConn, opts gresolver.BuildOptions) *discovery {
	ctx, cancel := context.WithCancel(context.Background())
	d := &discovery{
		options: b.options, reg: b.reg, target: t, rules: rules(t, opts),
		log: b.logger.With("target", t.String()), cc: cc,
		cancel: cancel, hints: make(chan struct{}, 1),
	}
	if b.serviceConfig != nil && !opts.DisableServiceConfig {
		changed := d.configure()
		d.running.Go(func() { d.followConfig(ctx, changed) })
	}
	d.running.Go(func() { d.run(ctx) })
	return d
}

// ResolveNow implements gresolver.Resolver: it asks the registry to look again,
// at once if it was not asked within the last second.
func (d *discovery) ResolveNow(gresolver.ResolveNowOptions) {
	select {
	case d.hints <- struct{}{}:
	default:
	}
}

// Close implements gresolver.Resolver.
func (d *discovery) Close() {
	d.cancel()
	d.running.Wait()
}

func (d *discovery) run(ctx context.Context) {
	for ctx.Err() == nil {
		watcher, err := d.reg.Watch(ctx, d.target.service)
		if err == nil {
			err = d.follow(ctx, watcher)
		}
		if ctx.Err() == nil {
			d.handle(registry.Snapshot{}, err)
			d.pause(ctx)
		}
	}
}

// followConfig tells the channel of every other service config.
func (d *discovery) followConfig(ctx context.Context, changed <-chan struct{}) {
	for {
		select {
		case <-changed:
			changed = d.configure()
		case <-ctx.Done():
			return
		}
	}
}

// configure gives the channel the current service config, with what it was told
// last; the config of a channel that has been told nothing waits for that. It
// returns what is closed when there is another one.
func (d *discovery) configure() (changed <-chan struct{}) {
	js, changed := d.serviceConfig.current()
	if js == "" {
		return changed
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config = d.cc.ParseServiceConfig(js)
	if d.told != nil {
		d.log.Info("another service config", "config", js)
		d.push(*d.told)
		if len(d.current) == 0 {
			d.cc.ReportError(errors.New(d.reported))
		}
	}
	return changed
}

// follow tells the channel what the watcher says, until the watch has ended.
func (d *discovery) follow(ctx context.Context, watcher registry.Watcher) error {
	ctx, cancel := context.WithCancel(ctx)
	var relaying sync.WaitGroup
	relaying.Go(func() { d.relayHints(ctx, watcher) })
	defer func() {
		cancel()
		relaying.Wait()
		if err := watcher.Close(); err != nil {
			d.log.Warn("cannot close the watch", "err", err)
		}
	}()
	for answered := false; ; answered = true {
		snapshot, err := next(ctx, watcher, answered)
		if ctx.Err() != nil || errors.Is(err, registry.ErrClosed) {
			return err
		}
		d.handle(snapshot, err)
		if err == nil {
			d.failures = 0
		} else {
			d.pause(ctx)
		}
	}
}

// pause waits after a failure, for ctx at most, if it followed too soon on the
// one before: what comes after a single failure is not put off.
func (d *discovery) pause(ctx context.Context) {
	_ = backoff.Wait(ctx, time.Until(d.failed.Add(retry.Delay(d.failures)))) // callers ask ctx
	d.failed = time.Now()
	d.failures++
}

// next is Next, but the first answer may take only so long.
func next(ctx context.Context, watcher registry.Watcher, answered bool) (registry.Snapshot, error) {
	if answered {
		return watcher.Next(ctx)
	}
	first, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	snapshot, err := watcher.Next(first)
	if err != nil && first.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("the registry has given no answer for %v", firstAnswer)
	}
	return snapshot, err
}

func (d *discovery) relayHints(ctx context.Context, watcher registry.Watcher) {
	for {
		select {
		case <-d.hints:
			watcher.Refresh()
		case <-ctx.Done():
			return
		}
		_ = backoff.Wait(ctx, hintSpacing) // the next select asks ctx
	}
}

// handle tells the channel what the registry answered, or why it did not.
func (d *discovery) handle(snapshot registry.Snapshot, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case errors.Is(err, registry.ErrUnknownService):
		d.empty(err)
	case err != nil:
		d.report(err)
	case len(snapshot.Instances) == 0: // the contract excludes it
		d.report(errors.New("the registry says neither who serves it nor that nobody does"))
	default:
		chosen := choose(d.rules, snapshot.Instances)
		if len(chosen.instances) > 0 {
			d.update(chosen)
		} else {
			d.empty(fmt.Errorf("none of the %d instances of %q can be called: %s", len(snapshot.Instances), d.target.service, chosen.leftOut))
		}
	}
}

// update gives the channel endpoints. The same ones again are not given, except
// after an error, which they take back.
func (d *discovery) update(c choice) {
	if d.resolved && d.reported == "" && slices.EqualFunc(c.instances, d.current, registry.Instance.Equal) {
		return
	}
	d.log.Info("resolved", "instances", len(c.instances), "left_out", c.leftOut)
	if behindProxy(d.cc, c.instances) {
		d.log.Warn("connections go through the HTTPS_PROXY, which takes weights and identities from the instances: see resolver.DialOptions")
	}
	d.resolved, d.current, d.reported = true, c.instances, ""
	if d.withoutDraining {
		c.instances = wanting(c.instances)
	}
	d.push(state(c.instances, d.serverName))
}

// empty takes the endpoints away, if the channel has had any: a policy shows the
// reason to calls, and those of gRPC do so for an error that follows. A channel
// that has had none keeps calls waiting unless it is given an error.
func (d *discovery) empty(reason error) {
	if d.resolved && (len(d.current) > 0 || d.text(reason) != d.reported) {
		d.current = nil
		d.push(endpoint.SetReason(gresolver.State{}, d.text(reason)))
	}
	d.report(reason)
}

// push does not try again what the policy refuses, since it would refuse it
// again. It asks for something better.
func (d *discovery) push(s gresolver.State) {
	s.ServiceConfig = d.config
	d.told = &s
	if err := d.cc.UpdateState(s); err != nil {
		d.log.Debug("the policy refuses the state", "instances", len(s.Endpoints), "err", err)
		d.ResolveNow(gresolver.ResolveNowOptions{})
	}
}

// report gives the channel an error. gRPC goes on with the last state; an error
// that is not news is not repeated.
func (d *discovery) report(err error) {
	text := d.text(err)
	if text == d.reported {
		return
	}
	d.log.Warn("cannot resolve", "err", err)
	d.reported = text
	if !d.resolved && gbalancer.Get(endpoint.Policy) != nil {
		// Before the first state there is no policy, and no record of a call would
		// learn that nobody was picked. rollcall's shows the reason of an empty one.
		d.push(endpoint.SetReason(gresolver.State{}, text))
	}
	// Only the text: a status somewhere inside err would fail even calls that
	// wait for ready.
	d.cc.ReportError(errors.New(text))
}

// text is err as calls see it.
func (d *discovery) text(err error) string { return fmt.Sprintf("%v: %v", d.target, err) }
