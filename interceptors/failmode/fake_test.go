package failmode_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/internal/backoff"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

// asTheScriptSays is the text of all errors.
const asTheScriptSays = "as the script says"

// outcome is how an attempt is to end.
type outcome struct {
	class pick.Class
	code  codes.Code
	hang  bool          // until the attempt's context ends; then code is that of the context
	takes time.Duration // before it ends

	advice pick.Advice // the server's
}

// fake stands for everything below the interceptor: a balancer with instances
// 1, 2, 3, … that tells the record what the script says.
type fake struct {
	script []outcome // of the attempts; the last one is repeated

	mu      sync.Mutex // guards all below; the record is used under it
	made    []string   // the instances of the attempts that were made
	waiting int        // attempts that were made with WaitForReady

	under     int   // attempts that are under way
	vain      int   // those beside another one for which nobody was picked
	executed  int   // attempts that may have executed
	succeeded int   // attempts that did
	last      error // of the last attempt
}

func (f *fake) invoke(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, opts ...grpc.CallOption) error {
	record := pick.FromContext(ctx).For(method)
	o, n := f.begin(record, opts)
	err := o.end(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.under--
	if f.last = err; err == nil {
		f.succeeded++
	}
	switch o.class {
	case pick.NeverPicked:
		record.NotPicked(err)
	case pick.Untracked:
	default:
		record.Advise(n, o.advice)
		record.End(n, o.class, err)
	}
	return err
}

// begin is the beginning of an attempt: how it is to end, and its number in the
// record.
func (f *fake) begin(record *pick.Record, opts []grpc.CallOption) (o outcome, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.under++
	o = f.script[min(len(f.made), len(f.script)-1)]
	if f.under > 1 && o.class == pick.NeverPicked {
		f.vain++
	}
	for _, opt := range opts {
		if ready, ok := opt.(grpc.FailFastCallOption); ok && !ready.FailFast {
			f.waiting++
		}
	}
	if record.InstancesAsked() && o.class != pick.Untracked {
		record.SetInstances([]string{})
	}
	id := f.choose(record)
	f.made = append(f.made, id)
	if !o.class.NotExecuted() {
		f.executed++
	}
	if o.class != pick.NeverPicked && o.class != pick.Untracked {
		n = record.Begin(&pick.Target{ID: id})
	}
	return o, n
}

// choose is a balancer's choice: the pinned one, or one that was not tried.
func (f *fake) choose(record *pick.Record) string {
	if id, ok := record.Pinned(); ok {
		return id
	}
	for i := 1; ; i++ {
		if id := fmt.Sprint(i); !record.Avoids(id) {
			return id
		}
	}
}

func (o outcome) end(ctx context.Context) error {
	takes := o.takes
	if o.hang {
		takes = math.MaxInt64
	}
	if err := backoff.Wait(ctx, takes); err != nil {
		st := status.FromContextError(err)
		return status.Error(st.Code(), st.Message()+" while waiting for connections to become ready")
	}
	return status.Error(o.code, asTheScriptSays)
}

// call makes a call through the interceptor, with the fake below it.
func call(ctx context.Context, f *fake, interceptor grpc.UnaryClientInterceptor, opts ...grpc.CallOption) error {
	return interceptor(ctx, "/shop.Orders/Pay", nil, new(echov1.AddResponse), nil, f.invoke, opts...)
}
