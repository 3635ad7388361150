package attempt

import (
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// window is how long a call counts for the budget: long enough to let every
// call in hand move when an instance dies, short enough that the good times
// before an outage do not pay for a storm in it.
const window = 3 * time.Second

// Budgets is a Budget for each service. Nil Budgets have no bound.
type Budgets struct {
	ratio, floor float64
	services     sync.Map // name -> *Budget
	count        atomic.Int64
	rest         *Budget // of those that are too many
}

// maxServices bounds how many services have a budget of their own: more than any
// program has, unless it hands on whatever it is called with.
const maxServices = 256

// NewBudgets returns Budgets that are each as NewBudget makes them.
func NewBudgets(ratio, perSecond float64) *Budgets {
	rest := NewBudget(ratio, perSecond)
	if rest == nil {
		return nil
	}
	return &Budgets{ratio: ratio, floor: perSecond, rest: rest}
}

// Of returns the budget of a full method's service.
func (b *Budgets) Of(method string) *Budget {
	if b == nil {
		return nil
	}
	service := method[:max(strings.LastIndexByte(method, '/'), 0)]
	if known, ok := b.services.Load(service); ok {
		return known.(*Budget)
	}
	if b.count.Load() >= maxServices {
		return b.rest
	}
	known, others := b.services.LoadOrStore(service, NewBudget(b.ratio, b.floor))
	if !others {
		b.count.Add(1)
	}
	return known.(*Budget)
}

// Budget bounds the extra attempts of all calls that share it: over its life
// they are at most ratio times the calls, plus the floor's rate times that life
// and one window. What was not used fades away within about a window. A nil
// Budget has no bound.
type Budget struct {
	ratio float64 // extra attempts per call
	floor float64 // extra attempts per second, however few calls there are

	calls atomic.Int64 // since last

	mu      sync.Mutex // guards all below; nothing is called under it
	balance float64
	last    time.Time
}

// NewBudget returns a full budget. Infinity as one of the arguments lifts it;
// what is negative or no number counts as 0.
func NewBudget(ratio, perSecond float64) *Budget {
	if math.IsInf(ratio, 1) || math.IsInf(perSecond, 1) {
		return nil
	}
	b := &Budget{ratio: positive(ratio), floor: positive(perSecond), last: time.Now()}
	b.balance = b.floor * window.Seconds()
	return b
}

func positive(x float64) float64 {
	if x > 0 {
		return x
	}
	return 0
}

// Call counts a call, which earns its share.
func (b *Budget) Call() {
	if b != nil {
		b.calls.Add(1)
	}
}

// Take takes one extra attempt out of the budget, or says that it is empty.
func (b *Budget) Take() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(time.Now())
	if b.balance < 1 {
		return false
	}
	b.balance--
	return true
}

// Give puts back what Take took for an attempt that was not made.
func (b *Budget) Give() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.balance++
}

// refill adds what calls and time have earned since the last time, and lets the
// rest fade. It runs only when an attempt is asked for, so that a call that
// succeeds reads no clock; calls of a longer time count as if they had come
// evenly.
func (b *Budget) refill(now time.Time) {
	passed := max(now.Sub(b.last), 0)
	b.last = now
	earned := b.ratio * float64(b.calls.Swap(0))
	if passed >= window {
		b.balance = earned*float64(window)/float64(passed) + b.floor*window.Seconds()
		return
	}
	b.balance = b.balance*(1-float64(passed)/float64(window)) + earned + b.floor*passed.Seconds()
}
