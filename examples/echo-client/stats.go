package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/status"
)

// maxMessages is how many kinds of error are told apart; the rest is counted by
// code only.
const maxMessages = 10

// report is what the program's last line says.
type report struct {
	Calls       int64            `json:"calls"`
	OK          int64            `json:"ok"`
	Failed      int64            `json:"failed"`
	Errors      map[string]int64 `json:"errors"`       // failed calls by code
	Classes     map[string]int64 `json:"classes"`      // failed attempts by class
	PerInstance map[string]int64 `json:"per_instance"` // successful calls by instance ID
	Attempts    int64            `json:"attempts"`
	P50         float64          `json:"p50_ms"` // of all calls made, from their scheduled start
	P99         float64          `json:"p99_ms"`
	Max         float64          `json:"max_ms"`
	Dropped     int64            `json:"dropped"` // of the failed: never made, too many in flight
	Seconds     float64          `json:"seconds"`
	Messages    []message        `json:"messages"` // the first error of each kind
}

// message is the first error of its kind.
type message struct {
	Code  string `json:"code"`
	Text  string `json:"text"`
	Count int64  `json:"count"`
}

// stats counts calls. The live table looks at intervals, the report at all.
type stats struct {
	onNewError func(message) // called for the first error of each kind

	mu       sync.Mutex // guards all below; nothing is called under it
	total    counts
	interval counts
	kinds    map[string]*message
	classes  map[string]int64
	attempts int64
	began    time.Time
}

// counts are the calls of a stretch of time.
type counts struct {
	ok, failed, dropped int64
	errors, perInstance map[string]int64
	latency             histogram
}

func newCounts() counts {
	return counts{errors: map[string]int64{}, perInstance: map[string]int64{}}
}

func newStats(onNewError func(message)) *stats {
	return &stats{
		onNewError: onNewError, total: newCounts(), interval: newCounts(),
		kinds: map[string]*message{}, classes: map[string]int64{}, began: time.Now(),
	}
}

// restart makes now the beginning of the run.
func (s *stats) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = time.Now()
}

// done counts a call that the instance served, or that failed with err.
func (s *stats) done(instance string, err error, latency time.Duration) {
	s.mu.Lock()
	for _, c := range []*counts{&s.total, &s.interval} {
		c.latency.add(latency)
		if err == nil {
			c.ok++
			c.perInstance[instance]++
		} else {
			c.failed++
			c.errors[status.Code(err).String()]++
		}
	}
	var first *message
	if err != nil {
		first = s.kindOf(err)
	}
	s.mu.Unlock()
	if first != nil {
		s.onNewError(*first)
	}
}

// kindOf counts err among its kind and returns it if it is the first. Errors
// that differ only in numbers (ports, times) are of one kind.
func (s *stats) kindOf(err error) (first *message) {
	st := status.Convert(err)
	kind := st.Code().String() + strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '.' {
			return -1
		}
		return r
	}, st.Message())
	if m := s.kinds[kind]; m != nil {
		m.Count++
		return nil
	}
	if len(s.kinds) == maxMessages {
		return nil
	}
	m := message{Code: st.Code().String(), Text: st.Message(), Count: 1}
	s.kinds[kind] = &m
	return &m
}

// dropped counts a call that was not made because too many were in flight.
func (s *stats) dropped() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range []*counts{&s.total, &s.interval} {
		c.failed++
		c.dropped++
		c.errors["Dropped"]++
	}
}

// attempt counts an attempt; class is that of a failed one, else empty.
func (s *stats) attempt(class string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts++
	if class != "" {
		s.classes[class]++
	}
}

// takeInterval returns the calls since it was last asked.
func (s *stats) takeInterval() counts {
	fresh := newCounts()
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.interval
	s.interval = fresh
	return taken
}

func (s *stats) report() report {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.total
	messages := []message{} // not null in JSON
	for _, m := range s.kinds {
		messages = append(messages, *m)
	}
	slices.SortFunc(messages, func(a, b message) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	return report{
		Calls: t.ok + t.failed, OK: t.ok, Failed: t.failed,
		Errors: maps.Clone(t.errors), Classes: maps.Clone(s.classes), PerInstance: maps.Clone(t.perInstance),
		Attempts: s.attempts, P50: ms(t.latency.quantile(0.5)), P99: ms(t.latency.quantile(0.99)), Max: ms(t.latency.max),
		Dropped: t.dropped, Seconds: time.Since(s.began).Seconds(), Messages: messages,
	}
}

// ms is d in milliseconds, to the microsecond.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
