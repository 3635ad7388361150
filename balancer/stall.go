package balancer

import (
	"cmp"
	"math"
	"time"
)

// StallDetection says when an instance that keeps its connection but answers
// nothing any more, because its process is frozen or its packets vanish, is taken
// for stalled. It then gets no new calls while others are ready, but for one now
// and then, until it answers something. It is on by default.
//
// Stalled is who has unary calls waiting and has answered nothing for Times its
// usual latency, or MinWait if that is longer, and for longer the fewer calls wait:
// that time if it is 8 or more, 8 times as long if it is one. Streams do not count
// as waiting, since they may be silent for hours: a call is unary if its record
// says so (interceptors failmode and track) or its method's descriptor does.
//
// Fields that are zero stand for their defaults.
type StallDetection struct {
	// MinWait is the shortest silence that counts. The default is 50ms.
	MinWait Duration `json:"minWait,omitzero"`
	// Times is how many times the usual latency the silence must last. The
	// default is 5.
	Times float64 `json:"times,omitzero"`
	// Off switches it off.
	Off bool `json:"off,omitzero"`
}

func (s StallDetection) complete() (StallDetection, error) {
	s.MinWait = cmp.Or(s.MinWait, Duration(50*time.Millisecond))
	s.Times = cmp.Or(s.Times, 5)
	var r rules
	r.want(s.MinWait > 0, `"minWait" must be more than 0`)
	r.want(s.Times >= 1 && s.Times <= 1e6, `"times" must be at least 1 and at most 1000000`)
	return s, r.err()
}

const (
	// enoughWaiting is how many silent calls are as good as any number.
	enoughWaiting = 8
	// firstAnswer is the usual latency of who has not answered yet.
	firstAnswer = 100 * time.Millisecond
)

// patience is how long so many calls may wait without an answer.
func (s StallDetection) patience(usual time.Duration, waiting uint32) time.Duration {
	patience := max(float64(s.MinWait), s.Times*float64(cmp.Or(usual, firstAnswer)))
	return time.Duration(min(patience*max(1, enoughWaiting/float64(waiting)), math.MaxInt64/2))
}

// pulse tells whether an instance still answers. So that ordinary calls cost
// nothing, it only knows at first whether calls were made and answered since the
// last look. When they are not answered it asks for those in hand to be counted.
type pulse struct {
	heard    time.Duration // when an answer was last seen, or nothing to answer
	asked    bool          // unary calls have been made since
	watching bool          // calls in hand are counted
	silent   bool          // for too long
}

// look takes note of whether the instance was asked and has answered since the
// last look, and of how many calls are known to wait.
func (p *pulse) look(now time.Duration, asked, answered bool, waiting uint32, usual time.Duration, cfg StallDetection) {
	watched := p.watching
	switch p.asked = p.asked || asked; {
	case answered:
		*p = pulse{heard: now}
	case !p.asked, watched && waiting == 0:
		p.heard = now
	default:
		p.watching = true
		p.silent = p.silent || waiting > 0 && now-p.heard >= cfg.patience(usual, waiting)
	}
}
