package attempt

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/pick"
)

// First is the first attempt of a unary call with a plain policy. Most calls need no
// other, so there is little in it, and what others need is on no stack meanwhile: that
// may be what makes it grow, and a processor has to fetch all that is touched.
type First struct {
	Context context.Context // to make the attempt with
	record  *pick.Record
	shared  Method
	began   time.Duration
	mark    pick.Mark
}

// Plain says whether the first attempt of a unary call may be a First.
func (p *Policy) Plain() bool { return p.Timeout == 0 && p.Hedging == nil }

// First begins a call as Start does, and its first attempt. After that comes Succeed,
// or the call's Resume.
func (p *Policy) First(ctx context.Context, method string) (f First) {
	f.Context, f.record, f.shared = p.start(ctx, method, false)
	f.mark, f.began = f.record.Mark(), Now()
	return f
}

// Succeed ends the call well.
func (f *First) Succeed(p *Policy, method string) {
	if p.Observe != nil {
		f.succeedObserved(p, method)
		return
	}
	p.learn(method, f.shared, f.began, 0)
}

//go:noinline
func (f *First) succeedObserved(p *Policy, method string) { f.AsCall(p, method, nil, nil).Succeed() }

// AsCall returns the call whose attempts so far are this one.
func (f *First) AsCall(p *Policy, method string, cc *grpc.ClientConn, opts []grpc.CallOption) *Call {
	return &Call{
		policy: p, method: method, ctx: f.Context, opts: opts, record: f.record, shared: f.shared, cc: cc, made: 1,
		run: run{n: 1, began: f.began, record: f.record, mark: f.mark, scope: scope{ctx: f.Context}},
	}
}
