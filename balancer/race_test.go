package balancer

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/drain"
	"github.com/rollcall-go/rollcall/pick"
	"github.com/rollcall-go/rollcall/registry"
)

// anyCall makes one of many kinds of calls, which ends in one of many ways.
func (b *bed) anyCall(n int) {
	ctx, rec := b.t.Context(), (*pick.Record)(nil)
	if n%2 == 0 {
		ctx, rec = b.recorded()
	}
	if n%6 == 0 {
		rec.Pin("b")
	}
	result, err := b.cc.State().Picker.Pick(gbalancer.PickInfo{Ctx: ctx, FullMethodName: []string{unaryMethod, streamMethod}[n/2%2]})
	if err != nil {
		return
	}
	info := gbalancer.DoneInfo{BytesSent: true, BytesReceived: true}
	switch n % 7 {
	case 1:
		info.Err = errUnavailable
	case 2:
		info.Trailer = drain.Closing("c", "1")
	case 3:
		info = gbalancer.DoneInfo{}
	}
	result.Done(info)
}

// Picks run beside everything else; -race watches.
func TestPicksBesideChanges(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		features := []func(*settings){
			ejecting(func(e *Ejection) { e.ConsecutiveFailures, e.BaseTime, e.Trials = 2, Duration(tickEvery), 1 }),
			local("x"), slowly(), func(s *settings) { s.subset = Subset{Size: 2, Key: "me"} },
		}
		b.resolve(p, servers("a/1", "b/1", "c/1")...)
		b.ready("a", "b", "c")
		for i := range 50 {
			for range 4 {
				go func() {
					for n := range 50 {
						b.anyCall(n)
					}
					b.report(gauges{})
				}()
			}
			insts := []registry.Instance{server("a/1", weighing(uint32(1+i%7)), in("x")), server("b/1", in("y")), server(fmt.Sprintf("c/%d", i%2), aged(0))}
			b.resolveWith(configWith(p, features[i%4], features[i/4%4]), insts...)
			for _, sc := range b.cc.SubConns() {
				if sc.State() == connectivity.Ready {
					sc.Set(connectivity.Idle, nil)
				}
			}
			time.Sleep(gather / 2)
			for _, sc := range b.cc.SubConns() {
				sc.Ready()
			}
			time.Sleep(tickEvery / 3)
		}
		synctest.Wait()
	})
}

// Close waits for everything, and calls that are under way do not mind.
func TestCloseBesideCalls(t *testing.T) {
	forEachPicker(t, func(t *testing.T, p Picker, b *bed) {
		b.resolveWith(configWith(p, ejecting(), slowly()), servers("a/1", "b/1", "c/1")...)
		b.ready("a", "b", "c")
		var stop atomic.Bool
		for range 4 {
			go func() {
				for n := 0; !stop.Load(); n++ {
					b.anyCall(n)
					time.Sleep(time.Millisecond)
				}
			}()
		}
		time.Sleep(time.Second)
		b.Close()
		b.wantPublished("a closed engine", 0, func() { time.Sleep(time.Second) })
		stop.Store(true)
		time.Sleep(time.Second)
		if b.ticker != nil && b.ticker.Stop() || b.timer != nil && b.timer.Stop() {
			t.Error("a timer is left after Close")
		}
	})
}

// Counters wrap round after some billions of calls, and the answers in a tally after some
// millions.
func TestCountsWrap(t *testing.T) {
	c := child{tally: new(tally), answers: newAnswers()}
	conn := newConn(&c, nil)
	conn.answers = c.answers
	for i := range c.answers.rows {
		c.answers.rows[i][0].Store(1<<32 - 1)
	}
	c.tally.calls.Store(maxAnswers * oneAnswer)
	c.tally.failed.Store(1<<32 - 1)
	before := c.counts()
	for range 3 {
		conn.answered(noted{counted: 1})
		c.tally.enter(unaryCall)
		conn.answered(noted{counted: 1, kind: unaryCall})
		c.tally.fail()
	}
	if got := c.counts().since(before); got != (record{calls: 9, failed: 3}) {
		t.Errorf("counted %+v", got)
	}
	for range 10 {
		c.tally.calls.Add(maxAnswers * oneAnswer)
		c.collect()
	}
	if got := c.counts().since(before); got != (record{calls: 9 + 10*maxAnswers, failed: 3}) {
		t.Errorf("counted %+v", got)
	}
	if c.tally.inHand() != 0 || c.tally.waiting() != 0 {
		t.Errorf("%d calls are in hand, %d wait", c.tally.inHand(), c.tally.waiting())
	}
}

// Of answers that come at the same time none is left out.
func TestAnswersAtOnceAreCounted(t *testing.T) {
	const goroutines, each = 4, 100_000
	c := child{tally: new(tally), answers: newAnswers(), column: 3}
	conn := newConn(&c, nil)
	conn.answers, conn.column = c.answers, c.column
	var running sync.WaitGroup
	for range goroutines {
		running.Go(func() {
			for range each {
				conn.answered(noted{counted: 1})
				c.tally.enter(streamCall)
				conn.answered(noted{counted: 1, kind: streamCall})
				c.tally.enter(unaryCall)
				conn.answered(noted{kind: unaryCall})
			}
		})
	}
	running.Wait()
	if got := c.counts(); got != (counts{answered: 2 * goroutines * each}) || c.tally.inHand() != 0 || c.tally.waiting() != 0 {
		t.Errorf("counted %+v, %d in hand, %d wait", got, c.tally.inHand(), c.tally.waiting())
	}
}

// whileAnswered does something to each of many connections at the moment, or some ns later,
// at which a call is answered that ends a row of one failure.
func whileAnswered(something func(*conn)) []*conn {
	conns := make([]*conn, 100_000)
	for i := range conns {
		conns[i] = newConn(&child{tally: new(tally)}, nil)
		conns[i].tally.fail()
		conns[i].onAnswer.Or(endRow)
	}
	var at atomic.Int64
	var running sync.WaitGroup
	running.Go(func() {
		for i, c := range conns {
			at.Store(int64(i))
			c.answered(noted{})
		}
	})
	for i, c := range conns {
		for at.Load() < int64(i) {
			runtime.Gosched()
		}
		for range i % 64 {
			at.Load()
		}
		something(c)
	}
	running.Wait()
	return conns
}

// A connection that is lost while a call is answered ends rows of failures still.
func TestAnswersWhileAConnectionIsLost(t *testing.T) {
	for _, c := range whileAnswered(func(c *conn) {
		c.rank.Store(rankLost)
		set(&c.onAnswer, endRow, true)
	}) {
		if c.onAnswer.Load()&endRow == 0 {
			t.Fatal("it does not")
		}
	}
}

// A call that fails while another one is answered begins a row that the next answer ends.
func TestFailuresWhileACallIsAnswered(t *testing.T) {
	for range 4 {
		for i, c := range whileAnswered(func(c *conn) {
			c.tally.fail()
			set(&c.onAnswer, endRow, true)
		}) {
			if c.answered(noted{}); c.tally.consecutive.Load() != 0 {
				t.Fatalf("the %dth was not ended", i)
			}
		}
	}
}
