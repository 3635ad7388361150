// Package fakecc is a gRPC ClientConn and its SubConns without a network, for
// tests and benchmarks of load balancing policies: what the connections do is
// what the test says.
package fakecc

import (
	"slices"
	"sync"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	estats "google.golang.org/grpc/experimental/stats"
	gresolver "google.golang.org/grpc/resolver"
)

// ClientConn is what a policy under test is built with. The zero ClientConn is
// ready to use. Methods of gRPC's interface that it does not have panic.
type ClientConn struct {
	gbalancer.ClientConn
	// Recorder is where the policy records its metrics: nil for nowhere.
	Recorder estats.MetricsRecorder

	mu        sync.Mutex // guards all below; nothing is called under it
	subConns  []*SubConn
	last      gbalancer.State
	published int
}

// NewSubConn implements gbalancer.ClientConn.
func (cc *ClientConn) NewSubConn(addrs []gresolver.Address, opts gbalancer.NewSubConnOptions) (gbalancer.SubConn, error) {
	sc := &SubConn{Addr: addrs[0].Addr, notify: opts.StateListener}
	cc.mu.Lock()
	defer cc.mu.Unlock()
	cc.subConns = append(cc.subConns, sc)
	return sc, nil
}

// UpdateState implements gbalancer.ClientConn.
func (cc *ClientConn) UpdateState(s gbalancer.State) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	cc.last = s
	cc.published++
}

// ResolveNow implements gbalancer.ClientConn.
func (*ClientConn) ResolveNow(gresolver.ResolveNowOptions) {}

// Target implements gbalancer.ClientConn.
func (*ClientConn) Target() string { return "fakecc" }

// MetricsRecorder implements gbalancer.ClientConn.
func (cc *ClientConn) MetricsRecorder() estats.MetricsRecorder {
	if cc.Recorder != nil {
		return cc.Recorder
	}
	return struct {
		estats.UnimplementedMetricsRecorder
	}{}
}

// State returns the state and the picker that were published last.
func (cc *ClientConn) State() gbalancer.State {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.last
}

// Published returns how many states have been published.
func (cc *ClientConn) Published() int {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.published
}

// SubConns returns the connections that have not been shut down, the oldest
// first.
func (cc *ClientConn) SubConns() []*SubConn {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(cc.subConns), (*SubConn).IsShutdown)
}

// Newest returns the connection that was created last.
func (cc *ClientConn) Newest() *SubConn {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.subConns[len(cc.subConns)-1]
}

// Created returns how many connections have been created.
func (cc *ClientConn) Created() int {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return len(cc.subConns)
}

// SubConn is a connection that is in the state it is told.
type SubConn struct {
	gbalancer.SubConn
	// Addr is where it leads.
	Addr   string
	notify func(gbalancer.SubConnState)

	mu       sync.Mutex // guards all below; nothing is called under it
	health   func(gbalancer.SubConnState)
	state    connectivity.State
	connects int
	shutdown bool
}

// Connect implements gbalancer.SubConn. It only counts.
func (sc *SubConn) Connect() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.connects++
}

// Shutdown implements gbalancer.SubConn.
func (sc *SubConn) Shutdown() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.shutdown = true
	sc.state = connectivity.Shutdown
}

// RegisterHealthListener implements gbalancer.SubConn.
func (sc *SubConn) RegisterHealthListener(listener func(gbalancer.SubConnState)) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.health = listener
}

// Connects returns how often it was told to connect.
func (sc *SubConn) Connects() int {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.connects
}

// IsShutdown says whether the policy has shut it down.
func (sc *SubConn) IsShutdown() bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.shutdown
}

// State returns its state.
func (sc *SubConn) State() connectivity.State {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.state
}

// Set puts the connection into the state and tells the policy; err is why it is
// in TRANSIENT_FAILURE. One that becomes READY is healthy too. As with gRPC,
// calls of Set must not overlap, also those on other connections.
func (sc *SubConn) Set(state connectivity.State, err error) {
	sc.mu.Lock()
	if sc.shutdown {
		sc.mu.Unlock()
		return
	}
	sc.state, sc.health = state, nil
	sc.mu.Unlock()
	sc.notify(gbalancer.SubConnState{ConnectivityState: state, ConnectionError: err})
	if state == connectivity.Ready {
		sc.SetHealth(connectivity.Ready, nil)
	}
}

// SetHealth tells the policy what a health check found, if it listens.
func (sc *SubConn) SetHealth(state connectivity.State, err error) {
	sc.mu.Lock()
	listener := sc.health
	sc.mu.Unlock()
	if listener != nil {
		listener(gbalancer.SubConnState{ConnectivityState: state, ConnectionError: err})
	}
}

// Ready connects the connection.
func (sc *SubConn) Ready() {
	sc.Set(connectivity.Connecting, nil)
	sc.Set(connectivity.Ready, nil)
}

// Fail lets the connection fail to connect because of err.
func (sc *SubConn) Fail(err error) {
	sc.Set(connectivity.Connecting, nil)
	sc.Set(connectivity.TransientFailure, err)
}
