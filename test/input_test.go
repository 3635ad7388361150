package test

import (
	"net"
	"strings"
	"testing"
	"time"
)

// Bad input ends every program at once with exit code 2 and one line that says
// what is wrong.
func TestBadInput(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	for _, tc := range []struct {
		program string
		args    []string
		says    string
	}{
		{"echo-client", []string{"-policy", "fastest"}, "random, round_robin, weighted_round_robin"},
		{"echo-client", []string{"-service-config", "/no/such/config.json"}, "/no/such/config.json"},
		{"echo-client", []string{"-service-config", "/dev/null"}, "no JSON service config"},
		{"echo-client", []string{"-service-config", "config.json", "-policy", "random"}, "one of them"},
		{"echo-client", []string{"-service-config", "config.json", "-target", "dns:///localhost:9000"}, "looked up in a registry"},
		{"echo-client", []string{"-fail-mode", "failsoft"}, "failover"},
		{"echo-client", []string{"-method", "delete"}, "add, get, put, stream"},
		{"echo-client", []string{"-registry", "nonsense"}, "nonsense"},
		{"echo-client", []string{"-registry", "127.0.0.1:6666,"}, "registry"},
		{"echo-client", []string{"-registry", ""}, "registry"},
		{"echo-client", []string{"-env", "my-env"}, "'-'"},
		{"echo-client", []string{"-env", ""}, "env is empty"},
		{"echo-client", []string{"-service", ""}, "-service is empty"},
		{"echo-client", []string{"-target", "discovery:///echo?colour=blue"}, `"colour"`},
		{"echo-client", []string{"-target", "discovery:///"}, "service is empty"},
		{"echo-client", []string{"-target", "discovery://host/echo"}, "registry"},
		{"echo-client", []string{"-target", ""}, "-target is empty"},
		{"echo-client", []string{"-target", "discovery:///echo", "-service", "echo"}, "one of them"},
		{"echo-client", []string{"-rps", "0"}, "-rps"},
		{"echo-client", []string{"-rps", "NaN"}, "-rps"},
		{"echo-client", []string{"-duration", "-1s"}, "-duration"},
		{"echo-client", []string{"-timeout", "0"}, "-timeout"},
		{"echo-client", []string{"-timeout", "soon"}, "-timeout"},
		{"echo-client", []string{"-per-attempt-timeout", "-1s"}, "-per-attempt-timeout"},
		{"echo-client", []string{"-attempts", "0"}, "-attempts"},
		{"echo-client", []string{"-max-in-flight", "0"}, "-max-in-flight"},
		{"echo-client", []string{"-retry-budget", "-1"}, "-retry-budget"},
		{"echo-client", []string{"-hedge", "-1ms"}, "-hedge"},
		{"echo-client", []string{"-colour", "blue"}, "-colour"},
		{"echo-client", []string{"extra"}, `"extra"`},
		{"echo-server", []string{"-weight", "-1"}, "from 1 to"},
		{"echo-server", []string{"-weight", "0"}, "from 1 to"},
		{"echo-server", []string{"-weight", "99999999999"}, "from 1 to"},
		{"echo-server", []string{"-weight", "heavy"}, "from 1 to"},
		{"echo-server", []string{"-listen", taken.Addr().String()}, "address already in use"},
		{"echo-server", []string{"-listen", "nonsense"}, "nonsense"},
		{"echo-server", []string{"-registry", "nonsense"}, "nonsense"},
		{"echo-server", []string{"-env", "my-env"}, "'-'"},
		{"echo-server", []string{"-service", ""}, "-service is empty"},
		{"echo-server", []string{"-fail", "Sometimes"}, `"Sometimes"`},
		{"echo-server", []string{"-fail", "OK"}, `"OK"`},
		{"echo-server", []string{"-fail", "Unavailable:2"}, "from 0 to 1"},
		{"echo-server", []string{"-fail", "Unavailable:NaN"}, "from 0 to 1"},
		{"echo-server", []string{"-drain-delay", "-1s"}, "-drain-delay"},
		{"echo-server", []string{"-heartbeat", "0s"}, "heartbeat"},
		{"echo-server", []string{"-heartbeat", "1h"}, "heartbeat"},
		{"echo-server", []string{"-latency", "-1s"}, "-latency"},
		{"echo-server", []string{"-register-timeout", "0"}, "-register-timeout"},
		{"echo-server", []string{"-advertise", "nonsense:port"}, "nonsense"},
		{"echo-server", []string{"-stats", "/no/such/folder/stats"}, "/no/such/folder"},
		{"registryd", []string{"-listen", taken.Addr().String()}, "address already in use"},
		{"registryd", []string{"-env", "my-env"}, "'-'"},
	} {
		t.Run(tc.program+" "+strings.Join(tc.args, " "), func(t *testing.T) {
			t.Parallel()
			p := start(t, tc.program, tc.program, tc.args...)
			if code := ended(t, p, 10*time.Second); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			if out := p.Output(); !strings.Contains(out, tc.says) || len(p.Stdout()) > 0 || strings.Count(out, "\n") > 2 {
				t.Errorf("it said %q, want one line with %q and the hint at -h, on standard error", out, tc.says)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, program := range []string{"echo-client", "echo-server", "demo", "registryd"} {
		p := start(t, program, program, "-h")
		if code := ended(t, p, patience); code != 0 {
			t.Errorf("%s -h exits with %d", program, code)
		}
		if !strings.Contains(strings.Join(p.Stdout(), "\n"), "-") {
			t.Errorf("%s -h says %q", program, p.Output())
		}
	}
}
