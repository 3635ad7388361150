package failmode

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
)

// hedged makes a call whose attempts may have others beside them.
func (u unary) hedged(ctx context.Context, reply proto.Message, opts []grpc.CallOption) error {
	var call attempt.Call
	call.Start(ctx, u.method, &u.policy, u.cc, opts, false)
	invoke := func(ctx context.Context, reply proto.Message, opts []grpc.CallOption) error {
		return u.invoker(ctx, u.method, u.req, reply, u.cc, opts...)
	}
	err := call.DoHedged(func(ctx context.Context, opts []grpc.CallOption) error {
		return invoke(ctx, reply, opts)
	}, beside(reply, invoke))
	return end(&call, err)
}

// beside prepares attempts that are made beside others: with a reply and with
// header, trailer and peer of their own, which become the caller's if the attempt
// is the one that counts.
func beside(reply proto.Message, invoke func(ctx context.Context, reply proto.Message, opts []grpc.CallOption) error) attempt.Beside {
	kind := reply.ProtoReflect().Type() // now, while nobody writes into it
	return func(opts []grpc.CallOption) (attempt.Try, []grpc.CallOption, func(error)) {
		mine := kind.New().Interface()
		own, deliver := redirect(opts)
		try := func(ctx context.Context, opts []grpc.CallOption) error { return invoke(ctx, mine, opts) }
		return try, own, func(err error) {
			deliver()
			if err == nil {
				proto.Reset(reply)
				proto.Merge(reply, mine)
			}
		}
	}
}

// redirect returns opts with other places for what gRPC tells the caller, and
// what moves it from there to the caller's.
func redirect(opts []grpc.CallOption) (own []grpc.CallOption, deliver func()) {
	var moves []func()
	for _, opt := range opts {
		switch o := opt.(type) {
		case grpc.HeaderCallOption:
			mine := new(metadata.MD)
			moves = append(moves, func() { *o.HeaderAddr = *mine })
			opt = grpc.Header(mine)
		case grpc.TrailerCallOption:
			mine := new(metadata.MD)
			moves = append(moves, func() { *o.TrailerAddr = *mine })
			opt = grpc.Trailer(mine)
		case grpc.PeerCallOption:
			mine := new(peer.Peer)
			moves = append(moves, func() { *o.PeerAddr = *mine })
			opt = grpc.Peer(mine)
		}
		own = append(own, opt)
	}
	return own, func() {
		for _, move := range moves {
			move()
		}
	}
}
