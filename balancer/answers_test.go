package balancer

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// Each instance has a column for itself, however many there are, come and go.
func TestColumns(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		type column struct {
			of *answers
			at uint16
		}
		taken := map[column]string{}
		for round := range 3 {
			var names []string
			for i := range 100 {
				names = append(names, fmt.Sprint(round, "-", i))
			}
			b.up(configWith(RoundRobin{}, ejecting()), names...)
			for n, name := range names {
				c := b.find(name, "")
				if before, ok := taken[column{c.answers, c.column}]; ok || c.conn.answers != c.answers || c.conn.column != c.column {
					t.Errorf("the column of %s is that of %q, or not its connection's", name, before)
				}
				taken[column{c.answers, c.column}] = name
				for range n {
					c.conn.dones[uncounted][1](answeredOK)
				}
			}
			for n, name := range names {
				if got := b.counts(name); got != (counts{answered: uint32(n)}) {
					t.Errorf("of %d answers counted %+v", n, got)
				}
			}
			time.Sleep(time.Second)
		}
	})
}

// Goroutines do not all count in the same row.
func TestRows(t *testing.T) {
	const goroutines = 256
	a := newAnswers()
	var counted, running sync.WaitGroup
	counted.Add(goroutines)
	for range goroutines {
		running.Go(func() {
			a.add(7)
			counted.Done()
			counted.Wait() // so that no two have the same stack
		})
	}
	running.Wait()
	if got := a.of(7); got != goroutines {
		t.Errorf("counted %d of %d", got, goroutines)
	}
	for row := range a.rows {
		if got := a.rows[row][7].Load(); got > goroutines/4 {
			t.Errorf("%d of %d count in one of %d rows", got, goroutines, len(a.rows))
		}
	}
}

// Who has no ejection has no counters.
func TestNoCountersWithoutEjection(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		b.up(configWith(RoundRobin{}), "a")
		if b.find("a", "").answers != nil || b.answers != nil {
			t.Error("it has")
		}
	})
}
