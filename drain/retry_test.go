package drain_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/drain"
)

func TestReadRetry(t *testing.T) {
	for name, tt := range map[string]struct {
		trailer metadata.MD
		never   bool
		wait    time.Duration
	}{
		"nothing":                   {metadata.Pairs("other", "1"), false, 0},
		"no retry":                  {drain.NoRetry(), true, 0},
		"relayed twice":             {metadata.Join(drain.NoRetry(), drain.NoRetry()), true, 0},
		"no retry and a wait":       {metadata.Join(drain.NoRetry(), metadata.Pairs(drain.PushbackKey, "5")), true, 0},
		"at once":                   {metadata.Pairs(drain.PushbackKey, "0"), false, 0},
		"a wait":                    {metadata.Pairs(drain.PushbackKey, "250"), false, 250 * time.Millisecond},
		"the longest":               {metadata.Pairs(drain.PushbackKey, "60000"), false, time.Minute},
		"longer":                    {metadata.Pairs(drain.PushbackKey, "60001"), true, 0},
		"more than a number":        {metadata.Pairs(drain.PushbackKey, "99999999999999999999"), true, 0},
		"negative":                  {metadata.Pairs(drain.PushbackKey, "-1"), true, 0},
		"no number":                 {metadata.Pairs(drain.PushbackKey, "soon"), true, 0},
		"empty":                     {metadata.Pairs(drain.PushbackKey, ""), true, 0},
		"more than one, as in gRPC": {metadata.Pairs(drain.PushbackKey, "1", drain.PushbackKey, "1"), true, 0},
	} {
		if never, wait := drain.ReadRetry(tt.trailer); never != tt.never || wait != tt.wait {
			t.Errorf("%s: never %t, wait %v; want %t, %v", name, never, wait, tt.never, tt.wait)
		}
	}
}

func FuzzReadRetry(f *testing.F) {
	f.Add("", "-1")
	f.Add("1", "9223372036854775807")
	f.Fuzz(func(t *testing.T, noRetry, pushback string) {
		never, wait := drain.ReadRetry(metadata.Pairs(drain.NoRetryKey, noRetry, drain.PushbackKey, pushback))
		if !never || wait != 0 {
			t.Errorf("never %t, wait %v with a no-retry trailer", never, wait)
		}
		never, wait = drain.ReadRetry(metadata.Pairs(drain.PushbackKey, pushback))
		if wait < 0 || wait > time.Minute || never && wait != 0 {
			t.Errorf("push-back %q: never %t, wait %v", pushback, never, wait)
		}
	})
}

func TestHop(t *testing.T) {
	drain.GiveUp(t.Context()) // no call is handled
	ctx, outer := drain.NewHop(t.Context())
	inner, hop := drain.NewHop(ctx)
	drain.GiveUp(inner)
	if !hop.GaveUp() || outer.GaveUp() {
		t.Errorf("the call gave up %t, the one around it %t", hop.GaveUp(), outer.GaveUp())
	}
}
