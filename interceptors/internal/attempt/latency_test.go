package attempt_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
)

func TestLatencies(t *testing.T) {
	var l attempt.Latencies
	for i := range 1000 {
		l.Note("m", time.Duration(i+1)*time.Millisecond, attempt.Now())
	}
	for _, q := range []float64{0.05, 0.5, 0.9, 0.99} {
		want := time.Duration(q * float64(time.Second))
		if least, most, ok := l.Quantile("m", q); !ok || least > want || most < want || most > least*5/4 {
			t.Errorf("%v of 1 ms to 1 s: %v to %v, %t", q, least, most, ok)
		}
	}
	if _, _, ok := l.Quantile("other", 0.5); ok {
		t.Error("knows another method")
	}
	(*attempt.Latencies)(nil).Note("m", 1, attempt.Now())
	if _, _, ok := (*attempt.Latencies)(nil).Quantile("m", 0.5); ok {
		t.Error("nobody knows something")
	}
}

func TestLatenciesOfEveryLength(t *testing.T) {
	for _, d := range []time.Duration{math.MinInt64, -1, 0, 1, 3, 4, 5, 7, 8, time.Microsecond, time.Hour, math.MaxInt64 / 2, math.MaxInt64} {
		var l attempt.Latencies
		for range 20 {
			l.Note("m", d, attempt.Now())
		}
		if least, most, ok := l.Quantile("m", 0.5); !ok || least > max(d, 4) || most < d {
			t.Errorf("%d: %d to %d, %t", d, least, most, ok)
		}
	}
}

func TestLatenciesForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l attempt.Latencies
		for range 20 {
			l.Note("m", time.Second, attempt.Now())
		}
		// What is forgotten 10 to 20 s later.
		time.Sleep(15 * time.Second)
		if _, _, ok := l.Quantile("m", 0.5); !ok {
			t.Error("forgotten after 15 s")
		}
		time.Sleep(6 * time.Second)
		if _, _, ok := l.Quantile("m", 0.5); ok {
			t.Error("remembered after 21 s")
		}
	})
}

// What a program hands on may have any number of method names.
func TestLatenciesOfTooManyMethods(t *testing.T) {
	var l attempt.Latencies
	known := 0
	for i := range 5000 {
		name := fmt.Sprint(i)
		for range 20 {
			l.Note(name, time.Second, attempt.Now())
		}
		if _, _, ok := l.Quantile(name, 0.5); ok {
			known++
		}
	}
	if known != 1024 {
		t.Errorf("%d methods are known", known)
	}
}
