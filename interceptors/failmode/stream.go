package failmode

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/internal/attempt"
)

// StreamClientInterceptor makes the attempts of streams in this mode. An unknown
// mode is Failfast.
func StreamClientInterceptor(mode Mode, opts ...Option) grpc.StreamClientInterceptor {
	settings := newConfig(mode, opts)
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		c := settings.forCall(opts)
		if c.mode == Broadcast {
			return nil, status.Errorf(codes.Unimplemented, "failmode: broadcast is for unary methods, and %s is a stream", method)
		}
		s := &stream{desc: desc}
		s.call.Start(ctx, method, &c.policy, cc, opts, true)
		s.streamer = func(ctx context.Context, opts []grpc.CallOption) (grpc.ClientStream, error) {
			return streamer(ctx, desc, cc, method, opts...)
		}
		if err := s.call.Do(s.open); err != nil {
			return nil, failure(&s.call, err)
		}
		return s, nil
	}
}

// stream is a grpc.ClientStream that is opened again elsewhere if it fails while
// that can be right.
type stream struct {
	desc     *grpc.StreamDesc
	streamer func(context.Context, []grpc.CallOption) (grpc.ClientStream, error)

	// committed: this attempt is the last one.
	committed atomic.Bool

	// recv lets one of RecvMsg and a failing Header or SendMsg at a time deal
	// with the end of an attempt. It guards call and over, is held while a stream
	// is read, and is taken before mu.
	recv sync.Mutex
	call attempt.Call
	over error // what RecvMsg returns from now on

	// mu guards all below; no method of current is called under it.
	mu      sync.Mutex
	current grpc.ClientStream
	request any // to be sent again; only if sent
	sent    bool
	closed  bool
}

// open opens the stream of an attempt, as long as there is none.
func (s *stream) open(ctx context.Context, opts []grpc.CallOption) error {
	opened, err := s.streamer(ctx, opts)
	if err != nil {
		return err
	}
	if s.desc.ClientStreams {
		if err := s.call.Settle(); err != nil {
			return err
		}
		s.committed.Store(true)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = opened
	return nil
}

// reopen opens the stream of another attempt, and makes it the current one when
// it has been sent what the last one was. What the caller sends meanwhile goes to
// the last one, and is sent again too.
func (s *stream) reopen(ctx context.Context, opts []grpc.CallOption) error {
	opened, err := s.streamer(ctx, opts)
	if err != nil {
		return err
	}
	for sent, closed := false, false; ; {
		request, send, end := s.replace(opened, sent, closed)
		switch {
		case send:
			if err := opened.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			sent = true
		case end:
			if err := opened.CloseSend(); err != nil {
				return err
			}
			closed = true
		default:
			return nil
		}
	}
}

// replace makes opened the current stream if nothing is missing on it; else it
// says what is: to send request, to end.
func (s *stream) replace(opened grpc.ClientStream, sent, closed bool) (request any, send, end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	send, end = s.sent && !sent, s.closed && !closed
	if !send && !end {
		s.current = opened
	}
	return s.request, send, end
}

// begun says that a first message has come: the request is not needed again.
func (s *stream) begun() {
	s.committed.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.request = nil
}

func (s *stream) attempt() grpc.ClientStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// SendMsg implements grpc.ClientStream.
func (s *stream) SendMsg(m any) error {
	s.mu.Lock()
	current := s.current
	if !s.desc.ClientStreams && !s.sent {
		s.request, s.sent = m, true
	}
	s.mu.Unlock()
	err := current.SendMsg(m)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		if s.desc.ClientStreams {
			return err
		}
		return nil // RecvMsg has the status, and may yet make another attempt
	}
	return s.fail(err)
}

// fail ends the call with an error that is no attempt's but this client's own.
// Where RecvMsg runs, it sees the same error and ends the call.
func (s *stream) fail(err error) error {
	if !s.recv.TryLock() {
		return err
	}
	defer s.recv.Unlock()
	if s.over == nil {
		s.over = failure(&s.call, s.call.Fail(err, attempt.Begun))
	}
	return s.over
}

// CloseSend implements grpc.ClientStream.
func (s *stream) CloseSend() error {
	s.mu.Lock()
	current := s.current
	s.closed = true
	s.mu.Unlock()
	return current.CloseSend()
}

// RecvMsg implements grpc.ClientStream. Until the first message it makes other
// attempts if the stream fails.
func (s *stream) RecvMsg(m any) error {
	s.recv.Lock()
	defer s.recv.Unlock()
	if s.over != nil {
		return s.over
	}
	err := s.receive(m)
	if err != nil && !errors.Is(err, io.EOF) {
		again := func() error { return s.receive(m) }
		if err = s.through(err, again); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	s.begun()
	if err != nil || !s.desc.ServerStreams {
		s.call.Succeed()
		s.over = io.EOF
	}
	return err
}

// receive is RecvMsg for one attempt.
func (s *stream) receive(m any) error {
	if err := s.attempt().RecvMsg(m); err != nil {
		return err
	}
	return s.call.Settle()
}

// through deals with err, with which the stream has failed: other attempts are
// made to do what is to be done, as long as that can be right. A stream that
// ends well, io.EOF, is none that fails.
func (s *stream) through(err error, do func() error) error {
	if s.committed.Load() {
		s.over = failure(&s.call, s.call.Fail(err, attempt.Begun))
		return s.over
	}
	var end error
	err = s.call.Resume(err, func(ctx context.Context, opts []grpc.CallOption) error {
		if err := s.reopen(ctx, opts); err != nil {
			return err
		}
		if end = do(); errors.Is(end, io.EOF) {
			return nil
		}
		return end
	})
	if err != nil {
		s.over = failure(&s.call, err)
		return s.over
	}
	return end
}

// Header implements grpc.ClientStream. If the stream has failed without one, it
// makes other attempts.
func (s *stream) Header() (metadata.MD, error) {
	current := s.attempt()
	md, err := current.Header()
	if md != nil || err != nil || s.committed.Load() {
		s.committed.Store(true)
		return md, err
	}
	s.recv.Lock()
	defer s.recv.Unlock()
	header := func() (err error) {
		if md, err = s.attempt().Header(); md != nil || err != nil {
			s.committed.Store(true)
			return err
		}
		return s.call.Ended()
	}
	err = s.call.Ended()
	if s.attempt() != current { // RecvMsg has made another attempt meanwhile
		err = header()
	}
	if s.over == nil && err != nil {
		s.through(err, header)
	}
	return md, nil // as in gRPC: the error is for RecvMsg to tell
}

// Trailer implements grpc.ClientStream.
func (s *stream) Trailer() metadata.MD { return s.attempt().Trailer() }

// Context implements grpc.ClientStream. As in gRPC, no other attempt is made
// once the caller has it.
func (s *stream) Context() context.Context {
	s.committed.Store(true)
	return s.attempt().Context()
}
