package registrar_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
)

// TestAnyLife plays random lives: calls and signals arrive, the registry fails, hangs
// and recovers, the program shuts down, stops, closes its listener and starts again,
// in any order and several at the same instant. The rules are checked where they
// could be broken and, by check, at the end.
func TestAnyLife(t *testing.T) {
	seed := rand.Uint64()
	for i := range uint64(100) {
		t.Run(fmt.Sprintf("seed=%d,%d", seed, i), func(t *testing.T) {
			bubble(t, func(t *testing.T) { newModel(t, rand.New(rand.NewPCG(seed, i))).play() })
		})
	}
}

// model is a rig that checks the rules of a life.
type model struct {
	*rig
	rnd                                    *rand.Rand // for play alone
	deregisterTimeout, drainDelay, grace   time.Duration
	signals                                chan os.Signal
	signalled                              []os.Signal // those that count; for play alone
	lastSignal                             time.Time
	calls                                  sync.WaitGroup
	mu                                     sync.Mutex // guards all below
	entered                                map[registrar.State]time.Time
	state                                  registrar.State
	wantedDown                             time.Time // when the first reason to go down came
	hurried                                bool      // by Stop, or by a Shutdown that may not take its time
	accepting, closed, closedByProgram     bool      // the listener
	registered, deregistering, everThere   bool      // the instance
	collided, moving                       bool      // it has been told that its ID is taken, and leaves it
	deregistered                           time.Time
	connected                              int       // connections that are open
	disconnected                           time.Time // when the last one was closed
	deserted                               bool      // nobody had been connected for a while when closing began
	executed, answered, refused, cutOrLate int       // calls
}

func newModel(t *testing.T, rnd *rand.Rand) *model {
	m := &model{rnd: rnd, entered: map[registrar.State]time.Time{}, signals: make(chan os.Signal, 4)}
	m.deregisterTimeout = m.oneOf(time.Millisecond, 3*time.Second)
	m.drainDelay = m.oneOf(0, time.Second, 7*time.Second)
	m.grace = m.oneOf(0, 2*time.Second, 10*time.Second)
	opts := []registrar.Option{
		registrar.WithDeregisterTimeout(m.deregisterTimeout), registrar.WithDrainDelay(m.drainDelay),
		registrar.WithGraceTimeout(m.grace), registrar.WithStateObserver(m.enter),
	}
	if rnd.IntN(2) == 0 {
		opts = append(opts, registrar.WithRegisterInBackground())
	}
	opts = append(opts, registrar.WithUniqueID())
	m.rig = newRigOn(t, func(r *slowRegistry) registrar.Registry { return &modelRegistry{r, m} }, nil, opts...)
	m.reg.events = make(chan registry.Event, 100) // more than there can be
	m.lis = &modelListener{m.lis, m}
	m.echo.OnCall(m.handle)
	return m
}

func (m *model) oneOf(choices ...time.Duration) time.Duration {
	return choices[m.rnd.IntN(len(choices))]
}

func (m *model) fault(format string, args ...any) {
	m.t.Errorf("after %v: "+format, append([]any{time.Since(m.journal.began)}, args...)...)
}

// play lives one life.
func (m *model) play() {
	go func() { m.result <- registrar.RunWith(m.ctx, m.signals, m.Registrar, m.server, m.lis) }()
	synctest.Wait()
	for range 60 {
		if m.rnd.IntN(3) > 0 {
			time.Sleep(time.Duration(m.rnd.Int64N(int64(time.Second))))
			m.wait()
		}
		m.act()
	}
	m.wantDown(false)
	m.cancel()
	err := <-m.result
	m.calls.Wait()
	time.Sleep(longest) // for handlers that do not notice that they were cut off
	m.check(err)
}

// wait waits until nothing moves and checks what must hold then.
func (m *model) wait() {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registered && !m.accepting || m.closed && m.registered && !m.deregistering && !m.moving {
		m.fault("registered, but nobody listens")
	}
	if m.deregistering && m.state < registrar.StateDraining {
		m.fault("deregistering in state %v", m.state)
	}
}

// act does one thing at random.
func (m *model) act() {
	switch n := m.rnd.IntN(100); {
	case n < 2:
		m.collide()
	case n < 70:
		m.call(time.Duration(m.rnd.Int64N(int64(m.oneOf(time.Second, time.Second, longest)))), m.rnd.IntN(5) == 0)
	case n < 78:
		m.reg.set(nil, m.oneOf(0, time.Second))
	case n < 86:
		m.reg.set(errDown, m.oneOf(0, 0, time.Second, time.Hour))
	case n < 90:
		m.calls.Go(func() {
			if err := m.Serve(m.t.Context(), m.server, m.lis); !errors.Is(err, registrar.ErrStarted) && !errors.Is(err, registrar.ErrStopped) {
				m.fault("a second Serve returned %v", err)
			}
		})
	case n < 91:
		m.wantDown(false)
		m.cancel()
	case n < 93:
		m.signal([]os.Signal{os.Interrupt, syscall.SIGTERM}[m.rnd.IntN(2)])
	case n < 95:
		m.shutdown(m.oneOf(0, time.Second, 10*time.Second))
	case n < 96:
		m.wantDown(true)
		m.calls.Go(m.Stop)
	default:
		if m.rnd.IntN(2) == 0 { // make it as rare as Stop
			return
		}
		m.wantDown(false)
		m.mu.Lock()
		m.closedByProgram = true
		m.mu.Unlock()
		m.lis.Close()
	}
}

// collide tells the server that another process has taken its ID.
func (m *model) collide() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.registered && !m.collided && m.wantedDown.IsZero() {
		m.collided = true
		m.reg.events <- registry.Event{Kind: registry.Collision, Err: errors.New("taken")}
	}
}

// signal sends a signal: the first one shuts down, the second one stops, unless it is
// the echo of the first.
func (m *model) signal(s os.Signal) {
	count := len(m.signalled)
	if count == 0 || s != m.signalled[count-1] || time.Since(m.lastSignal) >= 100*time.Millisecond {
		m.signalled, m.lastSignal = append(m.signalled, s), time.Now()
		m.wantDown(count > 0)
	}
	select {
	case m.signals <- s:
	default: // nobody listens any more
	}
}

// shutdown calls Shutdown, with a deadline if bound is not 0.
func (m *model) shutdown(bound time.Duration) {
	m.wantDown(bound > 0)
	m.calls.Go(func() {
		ctx, began := context.Background(), time.Now()
		if bound > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, bound)
			defer cancel()
		}
		err := m.Shutdown(ctx)
		if took := time.Since(began); bound > 0 && took > bound+2*time.Second {
			m.fault("Shutdown within %v took %v", bound, took)
		}
		if m.State() != registrar.StateStopped {
			m.fault("Shutdown returned %v in state %v", err, m.State())
		}
	})
}

// wantDown notes that the server is to go down from now on.
func (m *model) wantDown(hurried bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wantedDown.IsZero() {
		m.wantedDown = time.Now()
	}
	m.hurried = m.hurried || hurried
}

// longest is how long a call takes at most.
const longest = 20 * time.Second

// call makes a call that takes so long; a deaf handler does not notice its end.
func (m *model) call(takes time.Duration, deaf bool) {
	client := m.dial(nil)
	ctx := metadata.AppendToOutgoingContext(m.t.Context(), "takes", takes.Truncate(time.Millisecond).String(), "deaf", fmt.Sprint(deaf))
	m.calls.Go(func() {
		a := <-get(ctx, client)
		m.mu.Lock()
		defer m.mu.Unlock()
		marks := m.marks(a.trailer)
		switch draining, ok := m.entered[registrar.StateDraining]; {
		case a.err == nil:
			m.answered++
			if ok && draining.Before(time.Now()) && !marks.Closing {
				m.fault("an answer without a mark in state %v", m.state)
			}
		case marks.NotExecuted && drain.IsRefusal(a.err):
			m.refused++
			if m.state < registrar.StateClosing {
				m.fault("a call was refused in state %v", m.state)
			}
		case status.Code(a.err) == codes.Unavailable:
			m.cutOrLate++
		default:
			m.fault("a call ended with %v", a.err)
		}
	})
}

func (m *model) handle(ctx context.Context, _ string) error {
	m.mu.Lock()
	m.executed++
	m.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	takes, err := time.ParseDuration(md.Get("takes")[0])
	if err != nil {
		return err
	}
	ended := ctx.Done()
	if md.Get("deaf")[0] == "true" {
		ended = nil
	}
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ended:
		}
	}
	return nil
}

// enter observes the states.
func (m *model) enter(s registrar.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s <= m.state {
		m.fault("state %v follows %v", s, m.state)
	}
	m.state, m.entered[s] = s, time.Now()
	if s == registrar.StateClosing {
		m.deserted = m.connected == 0 && time.Since(m.disconnected) >= 2*time.Second
	}
}

// check checks the life when it is over; err is the result of Serve.
func (m *model) check(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	draining, closing, stopped := m.entered[registrar.StateDraining], m.entered[registrar.StateClosing], m.entered[registrar.StateStopped]
	forced := errors.Is(err, registrar.ErrForced)
	switch {
	case err != nil && !forced && !errors.Is(err, errDown) && !(m.closedByProgram && errors.Is(err, net.ErrClosed)):
		m.fault("Serve returned %v", err)
	case !forced && m.executed != m.answered:
		m.fault("%d of %d calls that were executed got their answer, and Serve returned %v", m.answered, m.executed, err)
	case forced && !m.hurried && stopped.Sub(closing) < m.grace:
		m.fault("calls were cut off %v after closing began, before the bound of %v", stopped.Sub(closing), m.grace)
	}
	if draining.After(m.wantedDown) {
		m.fault("draining began %v after it was wanted", draining.Sub(m.wantedDown))
	}
	if m.everThere && !m.hurried && !m.closedByProgram && !m.deserted && closing.Sub(m.deregistered) < m.drainDelay {
		m.fault("closing began %v after deregistration, before the drain delay of %v", closing.Sub(m.deregistered), m.drainDelay)
	}
	if took, bound := stopped.Sub(draining), m.deregisterTimeout+m.drainDelay+m.grace+2*time.Second; took > bound {
		m.fault("going down took %v, more than %v", took, bound)
	}
	if m.registered || m.InHand() != 0 || m.state != registrar.StateStopped {
		m.fault("in the end: state %v, registered: %v, %d in hand", m.state, m.registered, m.InHand())
	}
}

// modelRegistry holds the rules of registering.
type modelRegistry struct {
	*slowRegistry
	m *model
}

func (r *modelRegistry) Register(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
	r.m.mu.Lock()
	if r.m.deregistering || r.m.everThere && !r.m.collided {
		r.m.fault("registered again")
	}
	r.m.mu.Unlock()
	registration, err := r.slowRegistry.Register(ctx, inst)
	if err != nil {
		return nil, err
	}
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.m.registered, r.m.everThere, r.m.collided = true, true, false
	return &modelRegistration{registration, r.m}, nil
}

type modelRegistration struct {
	registry.Registration
	m *model
}

func (g *modelRegistration) Deregister(ctx context.Context) error {
	g.m.mu.Lock()
	moving := g.m.collided && g.m.state < registrar.StateDraining
	g.m.moving, g.m.deregistering = moving, !moving
	g.m.mu.Unlock()
	err := g.Registration.Deregister(ctx)
	g.m.mu.Lock()
	defer g.m.mu.Unlock()
	if g.m.registered, g.m.moving = false, false; !moving {
		g.m.deregistered = time.Now()
	}
	return err
}

// modelListener holds the rules of listening.
type modelListener struct {
	net.Listener
	m *model
}

func (l *modelListener) Accept() (net.Conn, error) {
	l.m.mu.Lock()
	l.m.accepting = true
	l.m.mu.Unlock()
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.connected++
	return &modelConn{tellingConn: c.(*tellingConn), m: l.m}, nil
}

// modelConn counts the open connections.
type modelConn struct {
	*tellingConn
	m    *model
	once sync.Once
}

func (c *modelConn) Close() error {
	c.once.Do(func() {
		c.m.mu.Lock()
		defer c.m.mu.Unlock()
		c.m.connected--
		c.m.disconnected = time.Now()
	})
	return c.tellingConn.Close()
}

func (l *modelListener) Close() error {
	l.m.mu.Lock()
	l.m.closed = true
	if l.m.registered && !l.m.closedByProgram {
		l.m.fault("the listener is closed while the instance is registered")
	}
	l.m.mu.Unlock()
	return l.Listener.Close()
}
