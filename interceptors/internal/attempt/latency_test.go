package attempt_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
)

func newLatency() *attempt.Latency { return attempt.NewMethods(nil).Learn("m") }

func TestLatency(t *testing.T) {
	l := newLatency()
	for i := range 1000 {
		l.Note(1, time.Duration(i+1)*time.Millisecond, attempt.Now())
	}
	for _, q := range []float64{0.05, 0.5, 0.9, 0.99} {
		want := time.Duration(q * float64(time.Second))
		if least, most, ok := l.Quantile(q); !ok || least > want || most < want || most > least*5/4 {
			t.Errorf("%v of 1 ms to 1 s: %v to %v, %t", q, least, most, ok)
		}
	}
}

func TestNoLatency(t *testing.T) {
	var l *attempt.Latency
	l.Note(1, time.Second, attempt.Now())
	if _, _, ok := l.Quantile(0.5); ok || l.Sample(0) != 0 {
		t.Error("nobody knows something")
	}
}

// Where there are many answers some of them stand for all, and for as many as
// there were; where there are few each is noted.
func TestLatencyIsSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLatency()
		note := func(n int, took time.Duration) (noted, answers int) {
			for range n {
				if each := l.Sample(attempt.Now()); each > 0 {
					l.Note(each, took, attempt.Now())
					noted, answers = noted+1, answers+int(each)
				}
			}
			return noted, answers
		}
		if noted, answers := note(160, time.Millisecond); noted != 160 || answers != 160 {
			t.Errorf("of the first 160 answers %d are noted as %d", noted, answers)
		}
		const many = 80_000
		if noted, answers := note(many, time.Second); math.Abs(float64(noted-many/8)) > many/80 || answers != 8*noted {
			t.Errorf("of %d more %d are noted as %d", many, noted, answers)
		}
		if least, most, _ := l.Quantile(0.5); least > time.Second || most < time.Second {
			t.Errorf("half take %v to %v", least, most)
		}
		time.Sleep(10 * time.Second)
		if noted, _ := note(160, time.Second); noted != 160 {
			t.Errorf("of 160 answers after a while %d are noted", noted)
		}
	})
}

func TestLatencyOfEveryLength(t *testing.T) {
	for _, d := range []time.Duration{math.MinInt64, -1, 0, 1, 3, 4, 5, 7, 8, time.Microsecond, time.Hour, math.MaxInt64 / 2, math.MaxInt64} {
		l := newLatency()
		l.Note(20, d, attempt.Now())
		if least, most, ok := l.Quantile(0.5); !ok || least > max(d, 4) || most < d {
			t.Errorf("%d: %d to %d, %t", d, least, most, ok)
		}
	}
}

func TestLatencyIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLatency()
		l.Note(20, time.Second, attempt.Now())
		// What is forgotten 10 to 20 s later.
		time.Sleep(15 * time.Second)
		if _, _, ok := l.Quantile(0.5); !ok {
			t.Error("forgotten after 15 s")
		}
		time.Sleep(6 * time.Second)
		if _, _, ok := l.Quantile(0.5); ok {
			t.Error("remembered after 21 s")
		}
	})
}

// What a program hands on may have any number of method names, of which those that
// nobody answers are made up.
func TestTooManyMethods(t *testing.T) {
	m := attempt.NewMethods(attempt.NewBudgets(0.2, 10))
	known := 0
	for i := range 5000 {
		name := fmt.Sprintf("/service/%d", i)
		if m.Of("/made.up"+name).Latency != nil {
			t.Fatal("something is known of a method that nobody has answered")
		}
		if m.Learn(name) != nil {
			known++
		}
		if m.Of(name).Budget != m.Of("/service/0").Budget {
			t.Fatalf("the budget of %s is not its service's", name)
		}
	}
	if known != 1024 || m.Learn("/service/0") == nil || m.Learn("/service/0") != m.Of("/service/0").Latency {
		t.Errorf("%d methods are known", known)
	}
}

// Of most modes and of streams nothing is learnt, and each of their calls asks.
func TestUnknownMethodsAllocateNothing(t *testing.T) {
	m := attempt.NewMethods(attempt.NewBudgets(0.2, 10))
	if got := testing.AllocsPerRun(100, func() { m.Of("/service/method") }); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
