package failmode_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
)

// fakeStream stands for the stream of one attempt, below the interceptor.
type fakeStream struct {
	ctx      context.Context
	takes    time.Duration // until each message
	messages int           // then the stream ends with err
	err      error
	sendErr  error
	onOpen   func() // called while it is opened, if set
	onSend   func() // called in SendMsg, if set
	sent     []any
	closed   bool
	mixed    bool // closed while something was sent
}

func (s *fakeStream) Header() (metadata.MD, error) { return nil, nil }
func (s *fakeStream) Trailer() metadata.MD         { return nil }
func (s *fakeStream) Context() context.Context     { return s.ctx }
func (s *fakeStream) CloseSend() error             { s.closed = true; return nil }
func (s *fakeStream) SendMsg(m any) error {
	if s.onSend != nil {
		s.onSend()
		s.mixed = s.closed
	}
	s.sent = append(s.sent, m)
	return s.sendErr
}
func (s *fakeStream) RecvMsg(any) error {
	time.Sleep(s.takes)
	if s.messages--; s.messages >= 0 {
		return nil
	}
	return s.err
}

// openFake opens a stream through the interceptor whose attempts are these.
func openFake(t *testing.T, desc *grpc.StreamDesc, attempts []*fakeStream, opts ...failmode.Option) grpc.ClientStream {
	t.Helper()
	opened := 0
	streamer := func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
		s := attempts[opened]
		s.ctx = ctx
		if s.onOpen != nil {
			s.onOpen()
		}
		opened++
		return s, nil
	}
	opts = append([]failmode.Option{failmode.Idempotent(true)}, opts...)
	stream, err := failmode.StreamClientInterceptor(failmode.Failover, opts...)(t.Context(), desc, nil, "/a.B/C", streamer)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

var (
	errLost      = status.Error(codes.Unavailable, "lost")
	serverStream = &grpc.StreamDesc{ServerStreams: true}
)

func TestAttemptsAreSentTheSameAndLeftBehindEnded(t *testing.T) {
	attempts := []*fakeStream{{err: errLost, sendErr: io.EOF}, {messages: 2, err: io.EOF}}
	s := openFake(t, serverStream, attempts)
	if err := s.SendMsg("request"); err != nil { // the attempt is lost, the call is not
		t.Errorf("SendMsg: %v", err)
	}
	s.CloseSend()
	if err := s.RecvMsg(nil); err != nil {
		t.Errorf("RecvMsg: %v", err)
	}
	if attempts[0].ctx.Err() == nil || attempts[1].ctx.Err() != nil {
		t.Errorf("the first attempt's context %v, the second one's %v; want the first ended", attempts[0].ctx.Err(), attempts[1].ctx.Err())
	}
	for i, a := range attempts {
		if !slices.Equal(a.sent, []any{"request"}) || !a.closed {
			t.Errorf("attempt %d was sent %v, closed %t", i+1, a.sent, a.closed)
		}
	}
	s.RecvMsg(nil)
	if err := s.RecvMsg(nil); !errors.Is(err, io.EOF) || attempts[1].ctx.Err() == nil {
		t.Errorf("at the end: %v, context %v", err, attempts[1].ctx.Err())
	}
}

// What the caller sends while another attempt is made reaches that one too: once,
// and not in the midst of what is sent again.
func TestWhatIsSentMeanwhileIsSentOnce(t *testing.T) {
	var s grpc.ClientStream
	send := func() { s.SendMsg("request") }
	end := func() { s.CloseSend() }
	for name, tt := range map[string]struct {
		before, opening, sending func()
		closed                   bool
	}{
		"sent while it opens":               {opening: send},
		"sent and ended while it opens":     {opening: func() { send(); end() }, closed: true},
		"ended while it is sent":            {before: send, sending: end, closed: true},
		"sent as it opens, ended as sent":   {opening: send, sending: end, closed: true},
		"its context is taken, then sent":   {opening: func() { s.Context(); send() }},
		"ended while it opens, sent before": {before: send, opening: end, closed: true},
	} {
		t.Run(name, func(t *testing.T) {
			again := &fakeStream{messages: 1, onOpen: tt.opening, onSend: tt.sending}
			s = openFake(t, serverStream, []*fakeStream{{err: errLost, sendErr: io.EOF}, again})
			if tt.before != nil {
				tt.before()
			}
			if err := s.RecvMsg(nil); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(again.sent, []any{"request"}) || again.closed != tt.closed || again.mixed {
				t.Errorf("sent %v, closed %t, while it was sent %t", again.sent, again.closed, again.mixed)
			}
		})
	}
}

// Where a stream was not sent anything, there is nothing to send again.
func TestNothingIsSentThatWasNotSent(t *testing.T) {
	attempts := []*fakeStream{{err: errLost}, {messages: 1}}
	if err := openFake(t, serverStream, attempts).RecvMsg(nil); err != nil {
		t.Error(err)
	}
	if attempts[1].sent != nil || attempts[1].closed {
		t.Errorf("sent %v, closed %t", attempts[1].sent, attempts[1].closed)
	}
}

func TestMessageThatComesTooLateIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := []*fakeStream{{messages: 1, takes: time.Second}, {messages: 1}}
		s := openFake(t, serverStream, attempts, failmode.WithPerAttemptTimeout(ms))
		if err := s.RecvMsg(nil); err != nil || attempts[1].messages != 0 {
			t.Errorf("%v, want the message of the second attempt", err)
		}
	})
}

func TestAttemptsOfAUnaryCallAreLeftBehindEnded(t *testing.T) {
	var attempts []context.Context
	invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		attempts = append(attempts, ctx)
		if len(attempts) < 2 {
			return errLost
		}
		return nil
	}
	interceptor := failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithPerAttemptTimeout(time.Hour), failmode.Idempotent(true))
	if err := interceptor(t.Context(), "/a.B/C", nil, nil, nil, invoker); err != nil {
		t.Fatal(err)
	}
	for i, ctx := range attempts {
		if ctx.Err() == nil {
			t.Errorf("the context of attempt %d is alive", i+1)
		}
	}
}

// A one-to-one call made as a stream ends with its message.
func TestOneMessageEndsACallWithoutStreams(t *testing.T) {
	told := 0
	note := failmode.WithObserver(func(failmode.AttemptEvent) { told++ })
	s := openFake(t, &grpc.StreamDesc{}, []*fakeStream{{messages: 1}}, note)
	if err := s.RecvMsg(nil); err != nil || told != 1 {
		t.Errorf("%v, %d attempts told", err, told)
	}
	if err := s.RecvMsg(nil); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}
