package failmode_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/pick"
)

// FuzzAttempts makes calls with scripts of outcomes, three bytes each and up to five
// a call, and checks what must hold whatever happens.
func FuzzAttempts(f *testing.F) {
	f.Add(uint8(2), int8(3), int64(time.Second), int64(0), int64(-1), uint8(20), true, []byte{2, 14, 0, 3, 0, 5})
	f.Add(uint8(1), int8(5), int64(50*ms), int64(10*ms), int64(-1), uint8(100), false, []byte{0, 14, 0, 0, 14, 255, 1, 14, 1})
	f.Add(uint8(2), int8(4), int64(time.Second), int64(10*ms), int64(ms), uint8(255), true, []byte{3, 14, 9, 2, 14, 255, 3, 250, 1, 3, 14, 9, 2, 14, 255, 3, 250, 1})
	f.Add(uint8(4), int8(9), int64(time.Second), int64(0), int64(0), uint8(0), true, []byte{3, 14, 200, 3, 14, 100, 3, 14, 50, 3, 0, 60})
	f.Add(uint8(2), int8(4), int64(time.Second), int64(10*ms), int64(ms), uint8(255), true, []byte("100000100000")) // a hedge for which nobody is picked
	f.Add(uint8(2), int8(-1), int64(-1), int64(-1), int64(-1), uint8(0), false, []byte{})
	f.Fuzz(func(t *testing.T, mode uint8, attempts int8, deadline, timeout, hedging int64, budget uint8, idempotent bool, bytes []byte) {
		synctest.Test(t, func(t *testing.T) {
			mode, ratio := failmode.Mode(mode%7), float64(budget)/100
			interceptor := failmode.UnaryClientInterceptor(mode, failmode.Idempotent(idempotent), failmode.WithMaxAttempts(int(attempts)),
				failmode.WithPerAttemptTimeout(time.Duration(timeout)), failmode.WithHedging(time.Duration(hedging)),
				failmode.WithBudget(ratio, 0), failmode.WithRetryableCodes(codes.Aborted))
			calls, extra := 0, 0
			for ; calls == 0 || len(bytes) >= 3; calls++ {
				made := &fake{script: script(bytes[:min(len(bytes), 15)])}
				bytes = bytes[min(len(bytes), 15):]
				ctx, cancel := context.WithTimeout(t.Context(), max(time.Duration(deadline%int64(time.Hour)), 0))
				until, _ := ctx.Deadline()
				err := call(ctx, made, interceptor)
				cancel()
				if time.Now().After(until) {
					t.Errorf("ended %v after the deadline", time.Since(until))
				}
				if mode == failmode.Broadcast && !idempotent {
					continue // was refused
				}
				check(t, made, err, mode, max(int(attempts), 1), idempotent)
				if mode != failmode.Forking && (mode != failmode.Failover || hedging < 0) {
					heeded(t, made)
				}
				extra += len(made.made) - 1 - made.vain
			}
			if float64(extra) > ratio*float64(calls) && mode != failmode.Forking {
				t.Errorf("%d extra attempts for %d calls, the budget allows %v of them", extra, calls, ratio)
			}
		})
	})
}

// script reads outcomes, and adds one for all attempts that follow.
func script(bytes []byte) (list []outcome) {
	for ; len(bytes) >= 3; bytes = bytes[3:] {
		list = append(list, outcome{
			class: pick.Class(bytes[0] % (uint8(pick.Untracked) + 1)), code: codes.Code(bytes[1] % 18),
			hang: bytes[2] == 255, takes: time.Duration(bytes[2]) * ms,
			advice: pick.Advice{Never: bytes[1] >= 250, Wait: time.Duration(bytes[0]/16) * 100 * ms},
		})
	}
	return append(list, outcome{class: pick.Answered, code: codes.Unavailable})
}

func check(t *testing.T, made *fake, err error, mode failmode.Mode, most int, idempotent bool) {
	n := len(made.made)
	if picked := n - made.vain; picked < 1 || picked > most {
		t.Errorf("%d attempts, allowed are %d", picked, most)
	}
	if n > 1 && (mode == failmode.Failfast || mode == failmode.Failsafe || mode > failmode.Broadcast) {
		t.Errorf("%v: %d attempts", mode, n)
	}
	if err == nil && made.succeeded == 0 && mode != failmode.Failsafe {
		t.Errorf("all %d attempts failed, the last with %v, and the call did not", n, made.last)
	}
	if err != nil && made.succeeded == n && mode != failmode.Broadcast {
		t.Errorf("all attempts succeeded, and the call failed: %v", err)
	}
	if made.executed > 1 && !idempotent {
		t.Errorf("%d attempts may have executed", made.executed)
	}
}

// heeded checks that no attempt was followed by another one against the advice of the
// server that was picked for it.
func heeded(t *testing.T, made *fake) {
	for i := range len(made.made) - 1 {
		if o := made.script[min(i, len(made.script)-1)]; o.class != pick.NeverPicked && o.class != pick.Untracked && o.advice.Never {
			t.Errorf("attempt %d was followed by another one against the server's advice", i+1)
		}
	}
}
