package main

import (
	"strings"
	"testing"
)

// passing is what the client counts in the three acts when all is well.
func passing() []result {
	return []result{
		{act: acts[0], Calls: 1000, Attempts: 1000, PerInstance: map[string]int64{"a": 503, "b": 298, "c": 199}},
		{act: acts[1], Calls: 2000, Attempts: 2000},
		{act: acts[2], Calls: 2000, Attempts: 2003},
	}
}

func TestVerdict(t *testing.T) {
	for name, tc := range map[string]struct {
		change func([]result)
		says   string // in the error; empty if there is to be none
	}{
		"all well":                     {func([]result) {}, ""},
		"a call failed in the roll":    {func(r []result) { r[1].Failed = 1 }, "1 of 2000 calls failed"},
		"a call failed after the kill": {func(r []result) { r[2].Failed = 2 }, "2 of 2000 calls failed"},
		"no calls":                     {func(r []result) { r[1].Calls = 0 }, "0 of 0"},
		"shares are off":               {func(r []result) { r[0].PerInstance["a"] -= 40 }, "a served 48.2%, its weight is 50.0%"},
		"nobody served":                {func(r []result) { r[0].PerInstance = nil }, "a served NaN%"},
		"one served all":               {func(r []result) { r[0].PerInstance = map[string]int64{"b": 1000} }, "b served 100.0%"},
	} {
		results := passing()
		tc.change(results)
		var out strings.Builder
		err := verdict(&out, results)
		switch {
		case tc.says == "" && (err != nil || !strings.Contains(out.String(), "no call failed")):
			t.Errorf("%s: %v; it said %s", name, err, out.String())
		case tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(out.String(), "no call failed")):
			t.Errorf("%s: %v, want %q; it said %s", name, err, tc.says, out.String())
		}
	}
}
