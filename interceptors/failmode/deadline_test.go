package failmode_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/pick"
)

// learnt is an interceptor that has seen the method's attempts take this long.
func learnt(t *testing.T, usual time.Duration, opts ...failmode.Option) grpc.UnaryClientInterceptor {
	interceptor := failmode.UnaryClientInterceptor(failmode.Failover, append([]failmode.Option{failmode.WithBackoff(0, 0)}, opts...)...)
	if usual > 0 {
		for range 20 {
			call(t.Context(), &fake{script: []outcome{{class: pick.Answered, takes: usual}}}, interceptor)
		}
	}
	return interceptor
}

// From the second attempt on, what is left of the deadline is shared.
func TestDeadlineIsShared(t *testing.T) {
	hang := outcome{class: pick.Unanswered, hang: true}
	for name, tt := range map[string]struct {
		usual      time.Duration
		idempotent bool
		script     []outcome
		opts       []grpc.CallOption
		made       int
		took       time.Duration
		code       codes.Code
	}{
		"the first has all of it": {0, true, []outcome{hang}, nil, 1, time.Second, codes.DeadlineExceeded},
		"the second has half":     {0, true, []outcome{unavailable, hang, {class: pick.Answered}}, nil, 3, 500 * ms, codes.OK},
		"the last has the rest":   {0, true, []outcome{unavailable, unavailable, hang}, nil, 3, time.Second, codes.DeadlineExceeded},
		"four share it": {0, true, []outcome{unavailable, hang, hang, {class: pick.Answered}},
			[]grpc.CallOption{failmode.WithMaxAttempts(4)}, 4, 666666666, codes.OK},
		"not less than is usual":     {700 * ms, true, []outcome{unavailable, {class: pick.Answered, takes: 690 * ms}}, nil, 2, 690 * ms, codes.OK},
		"all of it if that is usual": {960 * ms, true, []outcome{unavailable, hang}, nil, 2, time.Second, codes.DeadlineExceeded},
		"an own timeout that is shorter": {0, true, []outcome{hang, hang, {class: pick.Answered}},
			[]grpc.CallOption{failmode.WithPerAttemptTimeout(100 * ms)}, 3, 200 * ms, codes.OK},
		"an own timeout that is longer": {0, true, []outcome{unavailable, hang, {class: pick.Answered}},
			[]grpc.CallOption{failmode.WithPerAttemptTimeout(800 * ms)}, 3, 500 * ms, codes.OK},
		"none may follow": {0, false, []outcome{{class: pick.NotSent, code: codes.Unavailable}, {class: pick.Answered, takes: 990 * ms}}, nil, 2, 990 * ms, codes.OK},
		"cannot finish":   {500 * ms, true, []outcome{{class: pick.Unanswered, code: codes.Unavailable, takes: 700 * ms}}, nil, 1, 700 * ms, codes.Unavailable},
		"can finish":      {200 * ms, true, []outcome{{class: pick.Unanswered, code: codes.Unavailable, takes: 700 * ms}, {class: pick.Answered, takes: 200 * ms}}, nil, 2, 900 * ms, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				interceptor := learnt(t, tt.usual, failmode.Idempotent(tt.idempotent))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				f := &fake{script: tt.script}
				var err error
				d := took(func() { err = call(ctx, f, interceptor, tt.opts...) })
				if len(f.made) != tt.made || d.Round(ms) != tt.took.Round(ms) || status.Code(err) != tt.code {
					t.Errorf("%d attempts in %v: %v; want %d in %v, %v", len(f.made), d, err, tt.made, tt.took, tt.code)
				}
			})
		})
	}
}

// The first attempt has the caller's own context as far as deadlines go: no timer
// is made for it.
func TestFirstAttemptHasNoContextOfItsOwn(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	invoker := func(own context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		if own.Done() != ctx.Done() {
			t.Error("the attempt ends otherwise than the call")
		}
		return nil
	}
	if err := failmode.UnaryClientInterceptor(failmode.Failover, failmode.Idempotent(true))(ctx, "/a.B/C", nil, nil, nil, invoker); err != nil {
		t.Error(err)
	}
}
