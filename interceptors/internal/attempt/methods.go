package attempt

import (
	"sync"
	"sync/atomic"
)

// maxMethods bounds of how many methods something is learnt: more than any program
// has, unless it hands on whatever it is called with.
const maxMethods = 1024

// Methods is what the calls of one connection share, by method.
type Methods struct {
	budgets *Budgets
	known   sync.Map // full method -> *Method
	count   atomic.Int64
}

// Method is what the calls of one method share.
type Method struct {
	Budget  *Budget  // its service's
	Latency *Latency // nil for a method too many
}

// NewMethods returns Methods with these budgets, and of which nothing is learnt yet.
func NewMethods(budgets *Budgets) *Methods { return &Methods{budgets: budgets} }

// Of returns what the calls of this full method share.
func (m *Methods) Of(method string) *Method {
	if known, ok := m.known.Load(method); ok {
		return known.(*Method)
	}
	own := &Method{Budget: m.budgets.Of(method)}
	if m.count.Load() >= maxMethods {
		return own
	}
	own.Latency = newLatency()
	known, others := m.known.LoadOrStore(method, own)
	if !others {
		m.count.Add(1)
	}
	return known.(*Method)
}
