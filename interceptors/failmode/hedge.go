package failmode

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
)

// beside prepares attempts that are made beside others: with a reply and with
// header, trailer and peer of their own, which become the caller's if the attempt
// is the one that counts. It is nil for replies of which there is no way to have
// another one.
func beside(reply any, invoke func(ctx context.Context, reply any, opts []grpc.CallOption) error) attempt.Beside {
	theirs, ok := reply.(proto.Message)
	if !ok {
		return nil
	}
	kind := theirs.ProtoReflect().Type() // now, while nobody writes into it
	return func(opts []grpc.CallOption) (attempt.Try, []grpc.CallOption, func(error)) {
		mine := kind.New().Interface()
		own, deliver := redirect(opts)
		try := func(ctx context.Context, opts []grpc.CallOption) error { return invoke(ctx, mine, opts) }
		return try, own, func(err error) {
			deliver()
			if err == nil {
				proto.Reset(theirs)
				proto.Merge(theirs, mine)
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
