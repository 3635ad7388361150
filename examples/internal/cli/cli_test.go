package cli

import (
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
		says string
	}{
		{nil, ExitOK, ""},
		{flag.ErrHelp, ExitOK, ""},
		{errors.New("lost"), ExitFailure, "prog: lost\n"},
		{Usagef("weight %d", -1), ExitUsage, "prog: weight -1\nprog -h lists the flags\n"},
	} {
		var stderr strings.Builder
		if got := exitCode("prog", tc.err, &stderr); got != tc.want || stderr.String() != tc.says {
			t.Errorf("%v: exit code %d and %q, want %d and %q", tc.err, got, stderr.String(), tc.want, tc.says)
		}
	}
}

func TestFlagsReportOneLine(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"-n", "x"}, `invalid value "x" for flag -n: parse error`},
		{[]string{"-m", "1"}, "flag provided but not defined: -m"},
		{[]string{"-n", "1", "more"}, `unexpected argument "more": everything is given as a flag`},
	} {
		flags := NewFlags("prog", "prog does nothing")
		flags.Int("n", 0, "a number")
		err := flags.Read(tc.args, nil)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%q: %v, want %s", tc.args, err, tc.want)
		}
		if code := exitCode("prog", err, new(strings.Builder)); code != ExitUsage {
			t.Errorf("%q: exit code %d", tc.args, code)
		}
	}
}

func TestHelpIsNoError(t *testing.T) {
	flags := NewFlags("prog", "prog does nothing")
	flags.Int("n", 3, "a `number`")
	var out strings.Builder
	if err := flags.Read([]string{"-h"}, &out); exitCode("prog", err, nil) != ExitOK {
		t.Error(err)
	}
	if help := out.String(); !strings.Contains(help, "prog does nothing") || !strings.Contains(help, "-n number") {
		t.Errorf("help says %q", help)
	}
}

func TestList(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []string
	}{{"", nil}, {" ", nil}, {"a:1", []string{"a:1"}}, {"a:1, b:2", []string{"a:1", "b:2"}}, {"a:1,", []string{"a:1", ""}}} {
		if got := List(tc.in); !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, want %q", tc.in, got, tc.want)
		}
	}
}
