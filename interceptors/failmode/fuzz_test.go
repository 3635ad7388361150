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

// FuzzAttempts makes one call with a script of outcomes, three bytes each, and
// checks what must hold whatever happens.
func FuzzAttempts(f *testing.F) {
	f.Add(uint8(2), int8(3), int64(time.Second), int64(0), true, []byte{2, 14, 0, 3, 0, 5})
	f.Add(uint8(1), int8(5), int64(50*ms), int64(10*ms), false, []byte{0, 14, 0, 0, 14, 255, 1, 14, 1})
	f.Add(uint8(2), int8(-1), int64(-1), int64(-1), false, []byte{})
	f.Fuzz(func(t *testing.T, mode uint8, attempts int8, deadline, timeout int64, idempotent bool, bytes []byte) {
		script := []outcome{}
		for ; len(bytes) >= 3; bytes = bytes[3:] {
			script = append(script, outcome{
				class: pick.Class(bytes[0] % (uint8(pick.Untracked) + 1)), code: codes.Code(bytes[1] % 18),
				hang: bytes[2] == 255, takes: time.Duration(bytes[2]) * ms,
				advice: pick.Advice{Never: bytes[1] >= 250, Wait: time.Duration(bytes[0]/16) * 100 * ms},
			})
		}
		script = append(script, outcome{class: pick.Answered, code: codes.Unavailable})
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), max(time.Duration(deadline%int64(time.Hour)), 0))
			defer cancel()
			until, _ := ctx.Deadline()
			made := &fake{script: script}
			err := call(ctx, made, failmode.UnaryClientInterceptor(failmode.Mode(mode%4), failmode.Idempotent(idempotent)),
				failmode.WithMaxAttempts(int(attempts)), failmode.WithPerAttemptTimeout(time.Duration(timeout)))
			check(t, made, err, max(int(attempts), 1), idempotent)
			if time.Now().After(until) {
				t.Errorf("ended %v after the deadline", time.Since(until))
			}
		})
	})
}

func check(t *testing.T, made *fake, err error, most int, idempotent bool) {
	script := made.script
	if n := len(made.made); n < 1 || n > most {
		t.Errorf("%d attempts, allowed are %d", n, most)
	}
	if (err == nil) != (made.last == nil) {
		t.Errorf("the last attempt ended with %v, the call with %v", made.last, err)
	}
	for i := range len(made.made) - 1 {
		if o := script[min(i, len(script)-1)]; o.class.NotExecuted() || !o.advice.Never {
			continue
		}
		t.Errorf("attempt %d was followed by another one against the server's advice", i+1)
	}
	if made.executed > 1 && !idempotent {
		t.Errorf("%d attempts may have executed", made.executed)
	}
}
