// Package registrar puts a gRPC server into a registry for as long as it serves,
// and takes it out in the order that loses no call.
//
//	r := registrar.New(reg, registry.Instance{Service: "greeter"})
//	srv := grpc.NewServer(r.ServerOptions()...)
//	// register the services, listen
//	err = registrar.Run(ctx, r, srv, lis)
//
// # The life of a server
//
// A server passes through these states, in this order, each at most once
// (WithStateObserver sees them, and they are logged):
//
//	starting    until the listener's first Accept.
//	listening   It serves. Its address is put into the registry, by default for
//	            at most 10 seconds (WithRegisterTimeout), or in the background,
//	            on demand only if the server is reached at it (WithSelfProbe).
//	registered  It is in the registry and kept there. Health says SERVING.
//	draining    Health says NOT_SERVING, and every answer carries the closing
//	            mark of package drain, from which a rollcall client learns at
//	            once to send its next call elsewhere. The heartbeat is stopped
//	            and joined, then the instance is deregistered, for which the
//	            server waits at most 3 seconds (WithDeregisterTimeout). Then it
//	            serves on for the drain delay of 7 seconds (WithDrainDelay), so
//	            that clients that poll the registry learn of it. When no
//	            connection has been open for 2 seconds, nobody is left who
//	            could, and the rest of the delay is not waited for.
//	closing     GracefulStop: the listener closes and clients are told (GOAWAY)
//	            to open no new streams. Calls that cross that message are still
//	            served. The calls in hand have 15 seconds (WithGraceTimeout) to
//	            finish. A call that arrives in the last second of them, or tenth
//	            if that is shorter, could not: it is refused, with the proof
//	            that it was not executed. At the end of the time, Stop.
//	stopped     Everything the Registrar has started has ended.
//
// Going down begins when the context of Serve ends, with Shutdown, Stop or (in
// Run) a signal, and when the listener is closed by anybody else. What is not
// needed is skipped: a server that was never registered is not deregistered and
// does not wait for the drain delay, nor does one whose listener is closed. Stop
// and the second signal skip everything that waits.
//
// While it is registered, SetWeight changes its share of the traffic, and Drain
// and Resume take it out of service and back, without a reconnect at the clients;
// with WithSlowStart its weight grows from a share to all of it.
//
// The bounds of the steps add up to 25 seconds by default. A supervisor should
// give a little more before it kills: Kubernetes gives 30 unless
// terminationGracePeriodSeconds says otherwise, and a preStop hook that sleeps
// is not needed. docs/deploy.md has the numbers for Kubernetes and systemd.
package registrar
