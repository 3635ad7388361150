package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"
)

// flushEvery is how often the counters are written while calls come in, so that
// they outlive a server that is killed.
const flushEvery = 50 * time.Millisecond

// stats counts the executions of each method, failed ones included, and keeps
// the counters in a file.
type stats struct {
	path string // empty: no file

	mu      sync.Mutex // guards all below; nothing is called under it
	counts  map[string]int64
	changed bool

	stop    chan struct{}
	flusher sync.WaitGroup
}

// newStats writes the file once, so that a path which cannot be written is
// found before anything starts.
func newStats(path string) (*stats, error) {
	s := &stats{path: path, counts: map[string]int64{}, changed: true, stop: make(chan struct{})}
	if err := s.flush(); err != nil {
		return nil, err
	}
	s.flusher.Go(s.flushLoop)
	return s, nil
}

func (s *stats) executed(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[method]++
	s.changed = true
}

// close writes the counters for the last time.
func (s *stats) close() error {
	close(s.stop)
	s.flusher.Wait()
	return s.flush()
}

func (s *stats) flushLoop() {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			_ = s.flush() // close reports an error that lasts
		}
	}
}

// flush replaces the file as a whole: a reader never sees half of it.
func (s *stats) flush() error {
	s.mu.Lock()
	counts, changed := maps.Clone(s.counts), s.changed
	s.changed = false
	s.mu.Unlock()
	if s.path == "" || !changed {
		return nil
	}
	line, err := json.Marshal(counts)
	if err != nil {
		return err
	}
	next := s.path + ".next"
	if err := os.WriteFile(next, append(line, '\n'), 0o644); err != nil {
		return fmt.Errorf("write stats: %w", err)
	}
	if err := os.Rename(next, s.path); err != nil {
		return fmt.Errorf("write stats: %w", err)
	}
	return nil
}
