package balancer

import (
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Methods whose descriptors say that they are unary, and that they are not.
const (
	unaryMethod  = healthpb.Health_Check_FullMethodName
	streamMethod = healthpb.Health_Watch_FullMethodName
)

// deadline is when a caller gives up.
const deadline = time.Second

var (
	errUnavailable = status.Error(codes.Unavailable, "out of order")
	errDeadline    = status.Error(codes.DeadlineExceeded, "too late")
	errNotFound    = status.Error(codes.NotFound, "no such thing")
)

// How calls end.
var (
	answeredOK  = gbalancer.DoneInfo{BytesSent: true, BytesReceived: true}
	unavailable = gbalancer.DoneInfo{Err: errUnavailable, BytesSent: true, BytesReceived: true}
)

// answer is how an instance answers a call: after that time, with that error.
type answer struct {
	after time.Duration // never, if it is 0
	err   error
}

var fast = answer{after: 5 * time.Millisecond}

// behaviour is how the instances answer at a time since the load began. Who is not
// in it answers fast.
type behaviour func(id string, at time.Duration) answer

func always(id string, a answer) behaviour {
	return func(picked string, _ time.Duration) answer {
		if picked == id {
			return a
		}
		return fast
	}
}

// until is one behaviour before a time and another one from then on.
func until(end time.Duration, before, after behaviour) behaviour {
	return func(id string, at time.Duration) answer {
		if at < end {
			return before(id, at)
		}
		return after(id, at)
	}
}

func healthy(string, time.Duration) answer { return fast }

// seen is one call of a load.
type seen struct {
	id   string
	at   time.Duration
	lost bool // its caller gave up
}

// load makes calls of unaryMethod at this rate for this long.
func (b *bed) load(perSecond int, lasts time.Duration, answers behaviour) (calls []*seen) {
	b.t.Helper()
	began, every := time.Now(), time.Second/time.Duration(perSecond)
	for range int(lasts / every) {
		calls = append(calls, b.make(unaryMethod, time.Since(began), answers))
		time.Sleep(every)
	}
	return calls
}

// make makes one call, which ends when the instance answers or its deadline is over.
func (b *bed) make(method string, at time.Duration, answers behaviour) *seen {
	b.t.Helper()
	result, err := b.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: b.t.Context(), FullMethodName: method})
	if err != nil {
		b.t.Fatal(err)
	}
	call := &seen{id: b.idOf(result), at: at}
	a := answers(call.id, at)
	if call.lost = a.after == 0 || a.after > deadline; call.lost {
		time.AfterFunc(deadline, func() { result.Done(gbalancer.DoneInfo{Err: errDeadline, BytesSent: true}) })
	} else {
		time.AfterFunc(a.after, func() { result.Done(gbalancer.DoneInfo{Err: a.err, BytesSent: true, BytesReceived: true}) })
	}
	return call
}

// between returns the calls of a load that an instance got in a time.
func between(calls []*seen, id string, from, to time.Duration) (n int) {
	for _, c := range calls {
		if c.id == id && from <= c.at && c.at < to {
			n++
		}
	}
	return n
}

// lost returns how many calls of a load were lost.
func lost(calls []*seen) (n int) {
	for _, c := range calls {
		if c.lost {
			n++
		}
	}
	return n
}
