package failmode_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/pick"
)

func TestErrorTellsTheStory(t *testing.T) {
	neverPicked := outcome{class: pick.NeverPicked, code: codes.Unavailable}
	for name, tt := range map[string]struct {
		mode       failmode.Mode
		idempotent bool
		script     []outcome
		opts       []failmode.Option
		want       string
	}{
		"one attempt, nothing to add": {failmode.Failfast, false, []outcome{neverPicked}, nil, ""},
		"one attempt, may not execute twice": {failmode.Failover, false, []outcome{{class: pick.Unanswered, code: codes.Unavailable}}, nil,
			" (1 attempt: 1 Unavailable sent_no_answer; may have executed)"},
		"one attempt, may execute twice": {failmode.Failfast, true, []outcome{{class: pick.Unanswered, code: codes.Unavailable}}, nil, ""},
		"another policy": {failmode.Failover, false, []outcome{{class: pick.Untracked, code: codes.Unavailable}}, nil,
			" (1 attempt: no instance Unavailable untracked; may have executed)"},
		"all of them": {failmode.Failover, true, []outcome{{class: pick.NotSent, code: codes.Unavailable}, {class: pick.Unanswered, code: codes.Unavailable}, {class: pick.Answered, code: codes.NotFound}}, nil,
			" (3 attempts: 1 Unavailable not_sent, 2 Unavailable sent_no_answer, 3 NotFound answered; may have executed)"},
		"certainly not executed": {failmode.Failover, false, []outcome{{class: pick.Refused, code: codes.Unavailable}}, nil,
			" (3 attempts: 1 Unavailable refused, 2 Unavailable refused, 3 Unavailable refused; no attempts left)"},
		"the budget": {failmode.Failover, false, []outcome{{class: pick.NotSent, code: codes.Unavailable}},
			[]failmode.Option{failmode.WithBudget(0, 0)}, " (1 attempt: 1 Unavailable not_sent; the retry budget is empty)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := append([]failmode.Option{failmode.Idempotent(tt.idempotent)}, tt.opts...)
				err := call(t.Context(), &fake{script: tt.script}, failmode.UnaryClientInterceptor(tt.mode, opts...))
				if got, want := status.Convert(err).Message(), asTheScriptSays+tt.want; got != want {
					t.Errorf("message:\n %s\nwant\n %s", got, want)
				}
			})
		})
	}
}

// A handler's own error comes through as it is.
func TestErrorOfAHandlerIsUntouched(t *testing.T) {
	want := status.Error(codes.NotFound, "no such order")
	invoker := func(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		record := pick.FromContext(ctx)
		record.End(record.Begin(&pick.Target{ID: "a"}), pick.Answered, want)
		return want
	}
	err := failmode.UnaryClientInterceptor(failmode.Failover)(t.Context(), "/shop.Orders/Pay", nil, nil, nil, invoker)
	if err != want {
		t.Errorf("error: %#v", err)
	}
}

func TestErrorWorksWithTheStatusPackage(t *testing.T) {
	st, err := status.New(codes.Unavailable, "no").WithDetails(&errdetails.RetryInfo{})
	if err != nil {
		t.Fatal(err)
	}
	last := st.Err()
	invoker := func(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		record := pick.FromContext(ctx)
		record.End(record.Begin(&pick.Target{ID: "a"}), pick.Unanswered, last)
		return last
	}
	err = failmode.UnaryClientInterceptor(failmode.Failover)(t.Context(), "/shop.Orders/Pay", nil, nil, nil, invoker)
	const text = "no (1 attempt: a Unavailable sent_no_answer; may have executed)"
	if got := err.Error(); got != "rpc error: code = Unavailable desc = "+text {
		t.Errorf("text: %s", got)
	}
	if status.Code(err) != codes.Unavailable || !errors.Is(err, last) || errors.Unwrap(err) != last {
		t.Errorf("code %v, wraps %v", status.Code(err), errors.Unwrap(err))
	}
	got, ok := status.FromError(err)
	if !ok || got.Message() != text || len(got.Details()) != 1 {
		t.Errorf("status: %v, %t, details %v", got, ok, got.Details())
	}
	failed, ok := errors.AsType[*failmode.Error](err)
	if !ok || !failed.MayHaveExecuted() || failed.Reason != failmode.ReasonMayHaveExecuted || len(failed.Attempts) != 1 {
		t.Errorf("typed: %+v", failed)
	}
}

func TestObserverSeesEveryAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []failmode.AttemptEvent
		note := failmode.WithObserver(func(e failmode.AttemptEvent) { events = append(events, e) })
		f := &fake{script: []outcome{
			{class: pick.NotSent, code: codes.Unavailable, takes: time.Second}, {class: pick.Answered, takes: time.Minute},
		}}
		if err := call(t.Context(), f, failmode.UnaryClientInterceptor(failmode.Failover), note); err != nil {
			t.Fatal(err)
		}
		want := []failmode.AttemptEvent{
			{Attempt: 1, Target: pick.Target{ID: "1"}, Class: pick.NotSent, Duration: time.Second, Again: true, Reason: failmode.ReasonNotExecuted},
			{Attempt: 2, Target: pick.Target{ID: "2"}, Class: pick.Answered, Duration: time.Minute, Reason: failmode.ReasonSucceeded},
		}
		if len(events) != len(want) {
			t.Fatalf("%d events", len(events))
		}
		for i, e := range events {
			if e.Method != "/shop.Orders/Pay" || len(e.Picks) != 1 || (e.Err == nil) != (i == 1) {
				t.Errorf("event %d: %+v", i, e)
			}
			e.Method, e.Picks, e.Err = "", nil, nil
			if got, want := e, want[i]; got.Attempt != want.Attempt || got.Target != want.Target || got.Class != want.Class ||
				got.Duration != want.Duration || got.Again != want.Again || got.Reason != want.Reason {
				t.Errorf("event %d: %+v, want %+v", i, got, want)
			}
		}
	})
}
