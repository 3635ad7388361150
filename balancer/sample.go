package balancer

// To count each answer of a busy instance costs more than it tells. One that gives
// more than busyAnswers between two ticks is counted between two ticks of so many,
// which stand for them all.
const (
	busyAnswers = 20
	sampled     = 8
)

// sample is how many calls of an instance have ended, and how. The engine's mu
// guards it.
type sample struct {
	good  uint32 // estimated
	seen  uint32 // of the tally's good
	times uint32 // how many ticks the next count stands for, less one
	skip  int    // ticks before the answers are counted again
}

// look takes note at a tick of the answers that were counted since the last one.
func (s *sample) look(t *tally) {
	now := t.good.Load()
	counted := now - s.seen
	s.seen = now
	switch {
	case s.skip > 0:
		s.skip--
	case counted > busyAnswers:
		s.good += counted * (s.times + 1)
		s.times, s.skip = sampled-1, sampled-1
	default:
		s.good += counted * (s.times + 1)
		s.times = 0
	}
}

// counting says whether the answers are to be counted until the next tick.
func (s *sample) counting() bool { return s.skip == 0 }

// counts is a reading of what has ended how.
type counts struct{ good, failed uint32 }

// since returns what has been added to an earlier reading, and a new one.
func (s *sample) since(earlier counts, t *tally) (record, counts) {
	now := counts{s.good, t.failed.Load()}
	failed := float64(now.failed - earlier.failed)
	return record{calls: failed + float64(now.good-earlier.good), failed: failed}, now
}
