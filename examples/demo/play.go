package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// instance is one of the servers.
type instance struct {
	id     string
	weight int
}

var instances = []instance{{"a", 5}, {"b", 3}, {"c", 2}}

// act is one part of the demo: what happens under load, and how it has to end.
type act struct {
	title  string
	during func(*system) error
	shares bool // are to follow the weights
}

var acts = []act{
	{"steady load: shares follow the weights", func(s *system) error { return s.pause(7 * time.Second) }, true},
	{"rolling restart: every server leaves and comes back", roll, false},
	{"sudden death: one server is killed", kill, false},
}

// result is what the client counted in one act.
type result struct {
	act         act
	Calls       int64            `json:"calls"`
	Failed      int64            `json:"failed"`
	Dropped     int64            `json:"dropped"`
	Attempts    int64            `json:"attempts"`
	PerInstance map[string]int64 `json:"per_instance"`
	P99         float64          `json:"p99_ms"`
	Messages    []struct {
		Code string `json:"code"`
		Text string `json:"text"`
	} `json:"messages"`
}

// play starts everything, plays the acts and stops everything.
func play(s *system, rps int) ([]result, error) {
	if err := s.startRegistry(); err != nil {
		return nil, err
	}
	for _, inst := range instances {
		if err := s.startServer(inst); err != nil {
			return nil, err
		}
	}
	var results []result
	for i, a := range acts {
		s.say("\n%d. %s\n", i+1, a.title)
		r, err := perform(s, a, rps)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	for _, inst := range instances {
		if _, err := s.stop(inst.id); err != nil {
			return nil, err
		}
	}
	_, err := s.stop("registryd")
	return results, err
}

// perform plays one act with a client of its own.
func perform(s *system, a act, rps int) (result, error) {
	if err := s.startClient(rps); err != nil {
		return result{}, err
	}
	if err := a.during(s); err != nil {
		return result{}, err
	}
	client, err := s.stop("client")
	if err != nil {
		return result{}, err
	}
	lines := client.Stdout()
	if len(lines) == 0 {
		return result{}, errors.New("the client said nothing")
	}
	r := result{act: a}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		return result{}, fmt.Errorf("the client's last line: %w", err)
	}
	return r, nil
}

// roll restarts the servers one after another, as a deployment does.
func roll(s *system) error {
	if err := s.pause(time.Second); err != nil {
		return err
	}
	for _, inst := range instances {
		s.event("SIGTERM to %s: it leaves the registry, drains and exits", inst.id)
		if _, err := s.stop(inst.id); err != nil {
			return err
		}
		s.event("%s has exited with code 0; starting it again", inst.id)
		if err := s.startServer(inst); err != nil {
			return err
		}
		if err := s.pause(2 * time.Second); err != nil {
			return err
		}
	}
	return nil
}

// kill kills one server without a warning, and starts it again later.
func kill(s *system) error {
	if err := s.pause(2 * time.Second); err != nil {
		return err
	}
	victim := instances[1]
	s.event("SIGKILL to %s: it is gone without a word, and still in the registry", victim.id)
	s.kill(victim.id)
	if err := s.pause(3 * time.Second); err != nil {
		return err
	}
	if err := s.startServer(victim); err != nil {
		return err
	}
	return s.pause(3 * time.Second)
}

// tolerance is how far a share may be from its weight, as a part of all calls.
const tolerance = 0.01

// verdict prints the results and returns an error unless all are as they have to
// be.
func verdict(out io.Writer, results []result) error {
	var wrong []string
	fmt.Fprintf(out, "\nverdict\n\n")
	for _, r := range results {
		fmt.Fprintf(out, "  %-53s %6d calls  %4d failed  p99 %6.2f ms\n", r.act.title, r.Calls, r.Failed, r.P99)
		if extra := r.Attempts - r.Calls; extra > 0 {
			fmt.Fprintf(out, "    %d of them took another attempt\n", extra)
		}
		if r.Failed > 0 || r.Calls == 0 {
			wrong = append(wrong, fmt.Sprintf("%s: %d of %d calls failed", r.act.title, r.Failed, r.Calls))
		}
		for _, m := range r.Messages {
			fmt.Fprintf(out, "    %s: %s\n", m.Code, m.Text)
		}
		if r.Dropped > 0 {
			fmt.Fprintf(out, "    %d calls were not made: this machine is too slow for the rate (-rps)\n", r.Dropped)
		}
		if r.act.shares {
			wrong = append(wrong, shares(out, r)...)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("not as it has to be: %s", strings.Join(wrong, "; "))
	}
	fmt.Fprintf(out, "\nno call failed\n")
	return nil
}

// shares compares the shares with the weights and returns what is wrong.
func shares(out io.Writer, r result) (wrong []string) {
	var calls, weights float64
	for _, inst := range instances {
		calls += float64(r.PerInstance[inst.id])
		weights += float64(inst.weight)
	}
	for _, inst := range instances {
		got, want := float64(r.PerInstance[inst.id])/calls, float64(inst.weight)/weights
		fmt.Fprintf(out, "    %s: weight %d is %4.1f%%, served %4.1f%%\n", inst.id, inst.weight, 100*want, 100*got)
		if !(math.Abs(got-want) <= tolerance) { // NaN is wrong as well
			wrong = append(wrong, fmt.Sprintf("%s served %.1f%%, its weight is %.1f%%", inst.id, 100*got, 100*want))
		}
	}
	return wrong
}
