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
	Latency *Latency // nil as long as nothing is learnt of it
}

// NewMethods returns Methods with these budgets, and of which nothing is learnt yet.
func NewMethods(budgets *Budgets) *Methods { return &Methods{budgets: budgets} }

// Of returns what the calls of this full method share.
func (m *Methods) Of(method string) Method {
	if known, ok := m.known.Load(method); ok {
		return *known.(*Method)
	}
	return Method{Budget: m.budgets.Of(method)}
}

// Learn returns what has been learnt of a method, which has answered and so is not
// made up; nil if it is one too many.
func (m *Methods) Learn(method string) *Latency {
	if m.count.Load() >= maxMethods {
		return m.Of(method).Latency
	}
	known, others := m.known.LoadOrStore(method, &Method{Budget: m.budgets.Of(method), Latency: newLatency()})
	if !others {
		m.count.Add(1)
	}
	return known.(*Method).Latency
}
