package attempt

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/pick"
)

// First is the first attempt of a unary call with a plain policy. Most calls need no
// other, so there is little in it: what lies on the stack meanwhile may be what makes
// it grow, and all that is touched has to be fetched by a processor that was busy with
// something else.
type First struct {
	Context context.Context // to make the attempt with
	record  *pick.Record
	shared  Method
	began   time.Duration
	mark    pick.Mark
}

// Plain says whether the first attempt of a unary call may be a First.
func (p *Policy) Plain() bool { return p.Timeout == 0 && p.Hedging == nil }

// First begins a call, which Succeed or Call follows.
func (p *Policy) First(ctx context.Context, method string) (f First) {
	f.Context, f.record, f.shared = p.start(ctx, method, false)
	f.mark, f.began = f.record.Mark(), Now()
	return f
}

// Succeed ends the call well.
func (f *First) Succeed(p *Policy, method string) {
	if p.Observe != nil {
		f.Call(p, method, nil, nil).Succeed()
		return
	}
	p.learn(method, f.shared, f.began)
}

// Call returns the call of which this attempt has ended. If it has failed, Resume is
// what follows.
func (f *First) Call(p *Policy, method string, cc *grpc.ClientConn, opts []grpc.CallOption) *Call {
	return &Call{
		policy: p, method: method, ctx: f.Context, opts: opts, record: f.record, shared: f.shared, cc: cc, made: 1,
		run: run{n: 1, began: f.began, record: f.record, mark: f.mark, scope: scope{ctx: f.Context}},
	}
}
