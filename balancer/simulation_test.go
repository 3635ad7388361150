package balancer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc/balancer/roundrobin"
)

// getWell is how long instances that are well again may go without their share.
const getWell = 30 * time.Second

const withEjection = `{"picker":{%q:{}},"ejection":{}}`

// TestSimulation has 100 instances serve 10,000 calls a second, while one is slow,
// one fails, one is frozen, one flaps and one is dead. With -v it prints a table of
// what callers see of that, also of the pickers without ejection, and bare ones.
func TestSimulation(t *testing.T) {
	table := map[string]*outcomes{}
	t.Run("policies", func(t *testing.T) { // returns when all have
		run := func(name, policy, js string) {
			o := new(outcomes)
			table[name] = o
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { *o = simulate(t, policy, js) })
			})
		}
		run("grpc", roundrobin.Name, "{}")
		for picker := range pickers {
			run(picker+" ejection", Name, fmt.Sprintf(withEjection, picker))
			if testing.Verbose() {
				run(picker, Name, fmt.Sprintf(`{"picker":{%q:{}}}`, picker))
				run(picker+" bare", Name, fmt.Sprintf(`{"picker":{%q:{}},"stallDetection":{"off":true}}`, picker))
			}
		}
	})
	t.Log(printed(table))
	for name, o := range table {
		if strings.HasSuffix(name, "ejection") && o.errors() > table["grpc"].errors()/20 {
			t.Errorf("%s: %.3f %% of the calls fail", name, o.errors())
		}
		if o.wellAfter > getWell {
			t.Errorf("%s: who is well again has no full share for %v", name, o.wellAfter)
		}
	}
}

// TestEjectionLeavesEnoughInUse lets most instances fail, and then all: at least
// half are used all the same, and all are when they are well again.
func TestEjectionLeavesEnoughInUse(t *testing.T) {
	for picker, half := range map[string]int{"weighted_round_robin": 50, "p2c": 20} {
		t.Run(picker, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Name, fmt.Sprintf(withEjection, picker), 100)
				defer w.close()
				w.pass(time.Second)
				for _, many := range []int{80, 100} {
					for _, p := range w.patients[:many] {
						w.fall(p, isFailing)
					}
					for range 4 {
						if got := w.inUse(time.Second); got < half {
							t.Errorf("while %d fail, %d instances are in use", many, got)
						}
					}
				}
				for _, p := range w.patients {
					p.illness = well
				}
				if after := w.recover(w.patients, 0.5); after > getWell {
					t.Errorf("who is well again has no full share for %v", after)
				}
			})
		})
	}
}

// inUse lets a time pass and returns how many instances have got calls.
func (w *world) inUse(d time.Duration) (n int) {
	for _, p := range w.patients {
		p.picked = 0
	}
	w.pass(d)
	for _, p := range w.patients {
		if p.picked > 0 {
			n++
		}
	}
	return n
}

// outcomes are what callers see while instances are ill, and how long it takes
// until these have their share again when they are well.
type outcomes struct {
	observations
	wellAfter time.Duration
}

func simulate(t *testing.T, policy, js string) outcomes {
	w := newWorld(t, policy, js, 100)
	defer w.close()
	w.pass(2 * time.Second)
	ill := w.patients[:isDead]
	for i, p := range ill {
		w.fall(p, illness(i+1))
	}
	w.seen = observations{}
	w.pass(10 * time.Second)
	o := outcomes{observations: w.seen}
	for _, p := range ill {
		p.illness = well
	}
	o.wellAfter = w.recover(ill, 0.75)
	return o
}

// recover lets time pass until each of the patients has at least that part of an
// equal share of the calls, less than which is no chance, and returns how long that
// takes.
func (w *world) recover(patients []*patient, part float64) (after time.Duration) {
	const watch = 2 * time.Second
	least := int(part * float64(int(watch/step)*callsPerStep/len(w.patients)))
	for after < 2*getWell {
		for _, p := range patients {
			p.picked = 0
		}
		w.pass(watch)
		if !slices.ContainsFunc(patients, func(p *patient) bool { return p.picked < least }) {
			return after
		}
		after += watch
	}
	return after
}

func printed(table map[string]*outcomes) string {
	var s strings.Builder
	w := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\npolicy\tmedian\tp99\tp99.9\terrors\tfull share after\n")
	for _, name := range slices.Sorted(maps.Keys(table)) {
		o := table[name]
		fmt.Fprintf(w, "%s\t%v\t%v\t%v\t%.3f %%\t%v\n", name, o.quantile(0.5), o.quantile(0.99), o.quantile(0.999), o.errors(), o.wellAfter)
	}
	w.Flush()
	return s.String()
}
