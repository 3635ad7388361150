package registrar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/registry"
)

// stopTimeout bounds what a hard stop waits for: the registry, and
// grpc.Server.Stop, which does not return while a handler hangs if the server
// was built with grpc.WaitForHandlers.
const stopTimeout = time.Second

// maxRefusing is the longest that a closing server refuses calls before it
// stops: a call that arrives with less time than this left is not begun.
const maxRefusing = time.Second

// A draining server to which nobody has been connected for desertedAfter has no
// client left that could be told: whoever uses an instance is connected to it,
// and who begins just now needs less than this to ask the registry. It is looked
// for at every lookEvery.
const (
	desertedAfter = 2 * time.Second
	lookEvery     = 250 * time.Millisecond
)

// life takes the servers from listening to the end. Its methods are called one
// after the other by the one goroutine that claimed the Registrar.
type life struct {
	*Registrar
	servers []*grpc.Server
	lis     *listener       // nil if somebody else serves
	closed  <-chan struct{} // nobody listens any more; nil if that cannot be told

	// Set when the route to the registry has to tell the host to advertise.
	listen, port string

	warmed int // steps of a slow start that are over
}

// serve is the life that Serve runs.
func (r *Registrar) serve(ctx context.Context, srv *grpc.Server, lis net.Listener) error {
	watched := newListener(lis, func() { r.goDown(errListener) })
	defer watched.Close()
	l := &life{Registrar: r, servers: []*grpc.Server{srv}, lis: watched, closed: watched.closed}
	if err := l.prepare(lis.Addr().String()); err != nil {
		srv.Stop()
		return wrap("serve", err)
	}
	l.health.add(r.opts, r.Instance().Service, srv)
	defer r.downWith(ctx)()

	served := make(chan error, 1)
	go func() { served <- srv.Serve(watched) }()
	select {
	case <-watched.accepting:
	case <-watched.closed:
	}
	err := l.run()
	select {
	case serveErr := <-served:
		if serveErr != nil {
			err = errors.Join(err, wrap("serve "+lis.Addr().String(), serveErr))
		}
	case <-time.After(stopTimeout): // Stop does not return, and so Serve does not
	}
	return err
}

// start is the life that Start begins.
func (r *Registrar) start(addr string, servers []*grpc.Server) error {
	l := &life{Registrar: r, servers: servers}
	if err := l.prepare(addr); err != nil {
		waitFor(each(servers, (*grpc.Server).Stop), stopTimeout)
		return wrap("start", err)
	}
	l.health.connect(r.opts.health, r.Instance().Service, servers...)
	return l.run()
}

// prepare finds out before anything is begun what cannot work.
func (l *life) prepare(listen string) error {
	if err := l.opts.validate(); err != nil {
		return err
	}
	if err := l.growable(); err != nil {
		return err
	}
	if l.reg == nil {
		return errors.New("there is no registry: New was given nil")
	}
	if !l.optioned.Load() && !l.opts.foreign {
		return errors.New("the server was built without ServerOptions: use grpc.NewServer(r.ServerOptions()...), or WithForeignServer if it may do without")
	}
	return l.advertise(listen)
}

// run is the life from the moment at which connections are accepted.
func (l *life) run() error {
	var registration registry.Registration
	var err error
	if l.wanted.Err() == nil {
		l.enter(StateListening)
		if l.opts.background {
			l.ready()
		}
		registration, err = l.registerInTime()
	}
	if registration == nil {
		l.unwant(err)
		return errors.Join(err, l.end())
	}
	return l.registered(registration)
}

// registered is the life of a registered server.
func (l *life) registered(registration registry.Registration) error {
	var probing sync.WaitGroup
	probing.Go(l.warnOfProbe)
	l.enter(StateRegistered)
	if !l.opts.background {
		l.ready()
	}
	draining := make(chan struct{})
	go func() { // at once, also while another ID is being taken
		defer close(draining)
		<-l.wanted.Done()
		l.drain()
	}()
	for l.keep(registration, draining) {
		registration = l.registerAnew()
	}
	probing.Wait()
	l.linger()
	return l.close()
}

// keep takes care of a registration until the server drains, or its ID has been
// taken by another process. In the end there is no registration. nil is none from
// the beginning.
func (l *life) keep(registration registry.Registration, draining <-chan struct{}) (taken bool) {
	if registration == nil {
		<-draining
		return false
	}
	l.setEntry(registration)
	ctx, stop := context.WithCancel(l.wanted)
	defer stop()
	lost, over := make(chan struct{}, 1), make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() { l.follow(registration.Events(), lost, over) })
	helpers.Go(func() { l.keepUp(ctx, registration) })
	select {
	case <-draining:
	case <-lost:
		taken = true
		l.setEntry(nil)
	}
	stop()
	l.deregister(registration)
	close(over)
	helpers.Wait()
	return taken
}

// ready tells those who wait for the server that it can be called.
func (l *life) ready() {
	l.health.setReady()
	close(l.up)
}

// end closes a server that nobody can know from the registry.
func (l *life) end() error {
	l.drain()
	return l.close()
}

// drain says to everybody that the server is about to close.
func (l *life) drain() {
	l.gate.mark()
	l.health.shutdown()
	l.enter(StateDraining)
}

// deregister takes the instance out of the registry, if that works in time.
func (l *life) deregister(registration registry.Registration) {
	parent, bound := l.alive, min(l.opts.deregisterTimeout, l.remaining()/2)
	if l.alive.Err() != nil || bound == 0 { // no time from the start: the registry is told all the same
		parent, bound = context.Background(), stopTimeout
	}
	ctx, cancel := context.WithTimeout(parent, bound)
	defer cancel()
	if err := registration.Deregister(ctx); err != nil {
		l.opts.logger.Warn("registrar: the registry was not told and keeps the instance until its lease expires", slog.Any("error", err))
	}
}

// linger serves on for the drain delay, if anybody can still connect, and until
// nobody has been connected for a while.
func (l *life) linger() {
	began := time.Now()
	delay := func() time.Duration { return min(l.opts.drainDelay-time.Since(began), l.remaining()/2) }
	timer := time.NewTimer(delay())
	defer timer.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for alone := time.Duration(0); alone < desertedAfter && delay() > 0; {
		select {
		case <-look.C:
			alone += lookEvery
			if l.lis == nil || !l.lis.deserted() {
				alone = 0
			}
		case <-l.hurry:
			timer.Reset(delay())
		case <-timer.C:
			return
		case <-l.closed:
			return
		case <-l.alive.Done():
			return
		}
	}
}

// close stops the servers: gracefully within the grace timeout, then hard.
func (l *life) close() error {
	l.enter(StateClosing)
	if len(l.servers) == 0 {
		return nil
	}
	grace := min(l.opts.graceTimeout, l.remaining())
	ctx, cancel := context.WithTimeout(l.alive, grace)
	defer cancel()
	if ctx.Err() == nil {
		late := time.AfterFunc(grace-min(maxRefusing, grace/10), l.gate.refuse)
		defer late.Stop()
		select {
		case <-each(l.servers, (*grpc.Server).GracefulStop):
			return nil
		case <-ctx.Done():
		}
	}
	l.gate.refuse()
	inHand := l.InHand()
	l.opts.logger.Warn("registrar: stopping hard", slog.Int("inHand", inHand))
	returned := waitFor(each(l.servers, (*grpc.Server).Stop), stopTimeout)
	switch {
	case !returned:
		return fmt.Errorf("registrar: %w: grpc.Server.Stop waits for handlers that do not return", ErrForced)
	case !l.optioned.Load():
		return fmt.Errorf("registrar: %w, if there were any: a server without ServerOptions does not count them", ErrForced)
	case inHand > 0:
		return fmt.Errorf("registrar: %w: %d of them", ErrForced, inHand)
	}
	return nil
}

// each calls f for all servers at once and returns a channel that is closed when
// all have returned. After a Stop, GracefulStop still waits for the handlers:
// the goroutines end when these do, there is no way to end them earlier.
func each(servers []*grpc.Server, f func(*grpc.Server)) <-chan struct{} {
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, srv := range servers {
		all.Go(func() { f(srv) })
	}
	go func() {
		all.Wait()
		close(done)
	}()
	return done
}

// waitFor says whether done was closed within d.
func waitFor(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
