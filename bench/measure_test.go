package bench

import (
	"runtime"
	"slices"
	"syscall"
	"time"
)

// cost is what something costs each time it is done.
type cost struct {
	wall          float64 // ns
	cpu           float64 // ns of the whole process, with the rest
	bytes, allocs float64
	cores         float64 // that the process had while it was done
}

// figure says what is measured.
type figure struct {
	policy, what string
	n            int // endpoints
}

// measured is something that is measured again and again, in turn with others.
type measured struct {
	figure
	prepare func() // is not measured; may be nil
	do      func(times int) (took time.Duration)
	rest    func() // is called after do, and its time counts as cpu only; may be nil
	// parallel says that it runs on all cores. A measurement counts only if it has
	// had them for itself.
	parallel bool
	least    int // how often it is done in a measurement if that takes no longer than longSlice

	times       int // how often it is done in a measurement; if 0, that is found out
	rounds      int // how often it is measured at least
	costs       []cost
	undisturbed bool // how they were measured
}

// results are medians.
type results map[figure]cost

const (
	// rounds is how often each is measured; the median counts.
	rounds = 9
	// slice is how long a measurement takes at least: long for the scheduler and
	// short for the neighbours on the machine.
	slice = 10 * time.Millisecond
	// longSlice is how long one takes that is to do something so many times.
	longSlice = 100 * time.Millisecond
	// retries bounds how often a measurement is made until it is undisturbed.
	retries = 20
	// tooLong is how long something takes that is measured once only.
	tooLong = time.Second
	// maxTimes bounds how often something is done that takes no time.
	maxTimes = 1 << 22
)

// add measures all of them, interleaved so that they see the same machine.
func (r results) add(all []*measured) {
	for _, m := range all {
		if m.times == 0 {
			m.calibrate()
		}
	}
	for round := range max(rounds, all[0].rounds) {
		for i := range all {
			all[(i+round)%len(all)].again()
		}
	}
	for _, m := range all {
		r[m.figure] = m.median()
	}
}

// calibrate finds out how many times fill a measurement, also if some take long
// because of others on the cores.
func (m *measured) calibrate() {
	for m.times = 1; m.times < maxTimes; m.times *= 2 {
		c := m.measure()
		if c.wall >= float64(tooLong) {
			m.costs = append(m.costs, c)
			return
		}
		for range 2 {
			c.wall = min(c.wall, m.measure().wall)
		}
		if took := c.wall * float64(m.times); took >= float64(longSlice) || took >= float64(slice) && m.times >= m.least {
			return
		}
	}
}

// again measures once more, or more often if others are on the cores. What was
// disturbed by them counts only if nothing else was measured.
func (m *measured) again() {
	if len(m.costs) > 0 && m.costs[0].wall >= float64(tooLong) {
		return
	}
	for range retries {
		c := m.measure()
		if m.times < maxTimes && c.wall*float64(m.times) < float64(slice)/4 { // it was calibrated in a bad moment
			m.times *= 2
			continue
		}
		undisturbed := !m.parallel || c.cores >= 0.95*float64(runtime.GOMAXPROCS(0))
		switch {
		case undisturbed == m.undisturbed || len(m.costs) == 0:
			m.costs, m.undisturbed = append(m.costs, c), undisturbed
		case undisturbed:
			m.costs, m.undisturbed = []cost{c}, true
		}
		if undisturbed {
			return
		}
	}
}

func (m *measured) measure() cost {
	var before, after runtime.MemStats
	if m.prepare != nil {
		m.prepare()
	}
	runtime.ReadMemStats(&before)
	begin, cpu := time.Now(), cpuTime()
	took := m.do(m.times)
	cores := float64(cpuTime()-cpu) / float64(time.Since(begin))
	if m.rest != nil {
		m.rest()
	}
	cpu = cpuTime() - cpu
	runtime.ReadMemStats(&after)
	times := float64(m.times)
	return cost{
		wall: float64(took) / times, cpu: float64(cpu) / times, cores: cores,
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / times,
		allocs: float64(after.Mallocs-before.Mallocs) / times,
	}
}

// clocked is do with the time that it takes.
func clocked(do func(times int)) func(times int) time.Duration {
	return func(times int) time.Duration {
		begin := time.Now()
		do(times)
		return time.Since(begin)
	}
}

// median returns the median of each part of the costs.
func (m *measured) median() cost {
	of := func(part func(cost) float64) float64 {
		values := make([]float64, len(m.costs))
		for i, c := range m.costs {
			values[i] = part(c)
		}
		return median(values)
	}
	return cost{
		wall: of(func(c cost) float64 { return c.wall }), cpu: of(func(c cost) float64 { return c.cpu }),
		bytes: of(func(c cost) float64 { return c.bytes }), allocs: of(func(c cost) float64 { return c.allocs }),
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// cpuTime is the processor time of this process so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
