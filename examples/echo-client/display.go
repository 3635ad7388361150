package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// display shows how the run goes on: a row once a second and the first error of
// each kind. It only ever adds lines, so that it reads the same in a terminal
// and in a file.
type display struct {
	mu    sync.Mutex // guards out and seen; writing to out is all that happens under it
	out   io.Writer
	seen  map[string]bool // instances that have served calls, each with a column
	quiet bool
}

func newDisplay(out io.Writer, quiet bool) *display {
	return &display{out: out, quiet: quiet, seen: map[string]bool{}}
}

// firstError shows an error that has not been seen before.
func (d *display) firstError(m message) {
	if d.quiet {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, "       failed: %s: %s\n", m.Code, m.Text)
}

// watch shows a row each second until run returns.
func (d *display) watch(s *stats, run func()) {
	if d.quiet {
		run()
		return
	}
	stop := make(chan struct{})
	var rows sync.WaitGroup
	rows.Go(func() { d.rows(s, stop) })
	run()
	close(stop)
	rows.Wait()
}

func (d *display) rows(s *stats, stop <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	begin, last := time.Now(), time.Now()
	for {
		select {
		case <-stop:
			return
		case now := <-ticker.C:
			d.row(now.Sub(begin), now.Sub(last), s.takeInterval())
			last = now
		}
	}
}

// row shows the calls of one interval.
func (d *display) row(at, interval time.Duration, c counts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rate := float64(c.ok+c.failed) / interval.Seconds()
	fmt.Fprintf(d.out, "%5.0fs %6.0f/s  %5d failed  p50 %7.2f ms  p99 %7.2f ms%s\n",
		at.Seconds(), rate, c.failed, ms(c.latency.quantile(0.5)), ms(c.latency.quantile(0.99)), d.shares(c))
}

// maxColumns is for how many instances a row has a column; of more, those that
// served calls are shown as far as they fit.
const maxColumns = 8

// shares shows each instance's share of the successful calls. An instance keeps
// its column while it serves nothing, so that its return can be seen.
func (d *display) shares(c counts) string {
	for id := range c.perInstance {
		d.seen[id] = true
	}
	ids := slices.Sorted(maps.Keys(d.seen))
	if len(ids) > maxColumns {
		ids = slices.Sorted(maps.Keys(c.perInstance))
	}
	var b strings.Builder
	for _, id := range ids[:min(len(ids), maxColumns)] {
		if n := c.perInstance[id]; n > 0 {
			fmt.Fprintf(&b, "  %s %5.1f%%", id, 100*float64(n)/float64(c.ok))
		} else {
			fmt.Fprintf(&b, "  %s      -", id)
		}
	}
	if more := len(ids) - maxColumns; more > 0 {
		fmt.Fprintf(&b, "  and %d more", more)
	}
	return b.String()
}

// summarize shows the whole run.
func summarize(out io.Writer, r report) {
	fmt.Fprintf(out, "\n%d calls in %.1f s: %d ok, %d failed; %d attempts\n", r.Calls, r.Seconds, r.OK, r.Failed, r.Attempts)
	fmt.Fprintf(out, "latency from the scheduled start: p50 %.2f ms, p99 %.2f ms, max %.2f ms\n", r.P50, r.P99, r.Max)
	for _, id := range slices.Sorted(maps.Keys(r.PerInstance)) {
		n := r.PerInstance[id]
		fmt.Fprintf(out, "  %-12s %8d  %5.1f%%\n", id, n, 100*float64(n)/float64(r.OK))
	}
	for _, class := range byCount(r.Classes) {
		fmt.Fprintf(out, "  %d failed attempts were %s\n", r.Classes[class], class)
	}
	if r.Dropped > 0 {
		fmt.Fprintf(out, "  %d calls were not made: too many in flight (-max-in-flight)\n", r.Dropped)
	}
	for _, m := range r.Messages {
		fmt.Fprintf(out, "  %d calls failed: %s: %s\n", m.Count, m.Code, m.Text)
	}
}

// byCount returns the keys, the most frequent first.
func byCount(counts map[string]int64) []string {
	return slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
}
