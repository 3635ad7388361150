package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func interval(perInstance map[string]int64) counts {
	c := newCounts()
	for id, n := range perInstance {
		c.perInstance[id] = n
		c.ok += n
	}
	return c
}

// An instance keeps its column while it serves nothing.
func TestRowsKeepTheirColumns(t *testing.T) {
	d := newDisplay(nil, false)
	for _, tc := range []struct {
		served map[string]int64
		want   string
	}{
		{map[string]int64{"b": 3, "a": 5}, "  a  62.5%  b  37.5%"},
		{map[string]int64{"a": 5}, "  a 100.0%  b      -"},
		{nil, "  a      -  b      -"},
	} {
		if got := d.shares(interval(tc.served)); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.served, got, tc.want)
		}
	}
}

func TestRowsStayShort(t *testing.T) {
	d := newDisplay(nil, false)
	served := map[string]int64{}
	for i := range maxColumns + 3 {
		served[fmt.Sprint("instance", i)] = 1
	}
	if got := d.shares(interval(served)); strings.Count(got, "%") != maxColumns || !strings.HasSuffix(got, "and 3 more") {
		t.Errorf("got %q", got)
	}
}

func TestWatchShowsEachSecondAndNewErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		d := newDisplay(&out, false)
		s := newStats(d.firstError)
		d.watch(s, func() {
			s.done("a", nil, time.Millisecond)
			time.Sleep(1500 * time.Millisecond)
			s.done("", fmt.Errorf("broken"), time.Millisecond)
			s.done("", fmt.Errorf("broken"), time.Millisecond)
			time.Sleep(time.Second)
		})
		want := "    1s      1/s      0 failed  p50    1.00 ms  p99    1.00 ms  a 100.0%\n" +
			"       failed: Unknown: broken\n" +
			"    2s      2/s      2 failed  p50    1.00 ms  p99    1.00 ms  a      -\n"
		if out.String() != want {
			t.Errorf("got\n%swant\n%s", out.String(), want)
		}
	})
}

func TestQuietDisplaySaysNothing(t *testing.T) {
	d := newDisplay(nil, true) // and would panic if it did
	s := newStats(d.firstError)
	d.watch(s, func() { s.done("", fmt.Errorf("broken"), 0) })
}
