package failmode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
	"github.com/rollcall-go/rollcall/pick"
)

// broadcast makes the call at every instance. The first one is the balancer's
// choice, and with it comes which others there are.
func (u unary) broadcast(ctx context.Context, opts []grpc.CallOption) error {
	reply, ok := u.reply.(proto.Message)
	switch {
	case !ok:
		return status.Errorf(codes.Internal, "failmode: broadcast needs a reply that is a proto.Message, not %T", u.reply)
	case !u.policy.Idempotent(u.method):
		return status.Errorf(codes.FailedPrecondition, "failmode: broadcast executes %s at every instance, and nothing says that it may run more than once: see WithIdempotent", u.method)
	}
	kind := reply.ProtoReflect().Type() // now, while nobody writes into it
	ctx = pick.Without(ctx)
	first, record := pick.NewCall(ctx, u.method)
	record.AskInstances()
	err := u.call(first, opts)
	ids, known := record.Instances()
	made := record.Attempts()
	switch {
	case !known && err == nil:
		return status.Error(codes.Unavailable, "failmode: broadcast does not know which instances there are: is another policy than rollcall in use?")
	case !known || len(made) == 0:
		return err
	}
	asked := made[len(made)-1].Target.ID
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == asked })
	errs := make([]error, len(ids), len(ids)+1)
	var others sync.WaitGroup
	for i, id := range ids {
		others.Go(func() { errs[i] = at(id, u.pinned(ctx, id, kind.New().Interface(), opts)) })
	}
	others.Wait()
	return errors.Join(append(errs, at(asked, err))...)
}

// pinned makes the call at one instance, and lets no caller see its results.
func (u unary) pinned(ctx context.Context, id string, reply any, opts []grpc.CallOption) error {
	own, _ := redirect(opts)
	var call attempt.Call
	call.Start(ctx, u.method, &u.policy, u.cc, own, false)
	call.Pin(id)
	u.reply = reply
	return u.run(&call)
}

// at says where err comes from.
func at(id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("at %s: %w", id, err)
}
