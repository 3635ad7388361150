package registryserver

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// TestOnlyTheNodeChangesTheNodes: whatever a client sends about the registry's
// own app is refused and changes nothing.
func TestOnlyTheNodeChangesTheNodes(t *testing.T) {
	s := newServer(t)
	nodes := post(t, s, wire.PathNodes, `{"env":"dev"}`)
	if !strings.Contains(nodes, `"hostname":"n1","addrs":["http://127.0.0.1:6666"]`) {
		t.Fatalf("nodes answers %s", nodes)
	}
	for _, id := range []string{"n1", "rogue"} {
		for _, env := range []string{"dev", "prod", ""} {
			for _, more := range []string{``, `,"replication":true`, `,"latesttimestamp":1`} {
				body := fmt.Sprintf(`{"ENV":%q,"AppID":%q,"hostname":%q,"addrs":["http://127.0.0.1:1"],"status":1%s}`, env, wire.NodeService, id, more)
				for _, path := range []string{wire.PathRegister, wire.PathRenew, wire.PathCancel} {
					expect(t, s, path, body, badRequest)
				}
			}
		}
	}
	expect(t, s, wire.PathNodes, `{"env":"dev"}`, nodes)
	expect(t, s, wire.PathFetch, `{"env":"prod","appid":"Kavin.discovery","status":3}`, fetchNone)
	register(t, s, "kavin.discovery", "h1") // another name
}

func TestStableOrder(t *testing.T) {
	s := newServer(t)
	for _, id := range []string{"c", "", "b10", "b9", "a", "B", "c"} {
		register(t, s, "app", id)
	}
	expect(t, s, wire.PathCancel, request("app", "b9"), cancelOK)
	if got, want := ids(fetch(t, s, "app")), " B a b10 c"; got != want {
		t.Errorf("instances in the order %q, want %q", got, want)
	}
	for _, service := range []string{"z", "App", "app-x"} {
		register(t, s, service, "h")
	}
	for _, env := range []string{"e", "b", "d", "a", "c"} {
		expect(t, s, wire.PathRegister, fmt.Sprintf(`{"env":%q,"appid":"app","hostname":"zz","status":2}`, env), registerOK)
	}
	all := post(t, s, wire.PathFetchAll, "")
	at := -1
	for _, text := range []string{`{"App":[`, `],"Kavin.discovery":[`, `],"app":[{"env":"a"`, `{"env":"b"`, `{"env":"c"`,
		`{"env":"d"`, `{"env":"dev","appid":"app","hostname":""`, `{"env":"e"`, `],"app-x":[`, `],"z":[`} {
		next := strings.Index(all, text)
		if next <= at {
			t.Errorf("fetchall has %q at %d, want it after %d:\n%s", text, next, at, all)
		}
		at = next
	}
}

// TestWhichContentStays: of two that an instance was registered with.
func TestWhichContentStays(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) int64 { return now.Add(d).UnixNano() }
	tests := map[string]struct {
		first, second int64         // dirtytimestamp given
		later         time.Duration // from the first to the second
		want          outcome
	}{
		"ordinary":                             {0, 0, time.Second, replaced},
		"ordinary, at the same instant":        {0, 0, 0, replaced},
		"ordinary, after the clock went back":  {0, 0, -time.Hour, replaced},
		"ordinary, after one from the future":  {at(time.Hour), 0, time.Second, replaced},
		"older":                                {at(-1), at(-2), time.Second, outdated},
		"equal":                                {at(-1), at(-1), time.Second, replaced},
		"newer":                                {at(-2), at(-1), time.Second, replaced},
		"older than an ordinary one":           {0, at(-1), time.Second, outdated},
		"from the future counts as ordinary":   {0, at(time.Hour), time.Second, replaced},
		"the greatest number, then ordinary":   {math.MaxInt64, 0, time.Second, replaced},
		"negative counts as ordinary, twice":   {-1, math.MinInt64, time.Second, replaced},
		"older than one that ignored a future": {at(time.Hour), at(-1), time.Second, outdated},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore()
			id := wire.Identity{Env: "dev", AppID: "app", Hostname: "h1"}
			put := func(version string, dirty int64, now time.Time) outcome {
				return s.register(registration{RegisterRequest: wire.RegisterRequest{Identity: id, Version: version, Status: statusUp}, dirty: dirty}, now)
			}
			if got := put("first", tt.first, now); got != added {
				t.Errorf("the first is %v", got)
			}
			if got := put("second", tt.second, now.Add(tt.later)); got != tt.want {
				t.Errorf("the second is %v, want %v", got, tt.want)
			}
			body, _ := s.appendFetch(nil, keyOf(id), statusUp)
			if got := strings.Contains(string(body), `"version":"second"`); got != (tt.want == replaced) {
				t.Errorf("then fetch says %s", body)
			}
			if !strings.Contains(string(body), fmt.Sprintf(`"up_timestamp":%d`, now.UnixNano())) {
				t.Errorf("the time of the first registration is lost: %s", body)
			}
		})
	}
}

// TestCounterNeverWraps: no latesttimestamp makes an app unreadable.
func TestCounterNeverWraps(t *testing.T) {
	s := newServer(t)
	for i, latest := range []int64{math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, -1, time.Now().Add(time.Hour).UnixNano(), 0} {
		register(t, s, "app", "h1", fmt.Sprintf(`,"latesttimestamp":%d`, latest))
		if got := fetch(t, s, "app").LatestTimestamp; got != int64(i)+1 {
			t.Errorf("with latesttimestamp %d the counter is %d, want %d", latest, got, i+1)
		}
	}
	register(t, s, "app", "h2")
	expect(t, s, wire.PathCancel, request("app", "h2", fmt.Sprintf(`,"latesttimestamp":%d`, int64(math.MaxInt64))), cancelOK)
	if got := fetch(t, s, "app").LatestTimestamp; got != 8 {
		t.Errorf("after a cancel with the greatest latesttimestamp the counter is %d, want 8", got)
	}
}

// TestBodyLimit: a body over the limit is refused like one that is not JSON, and
// one at the limit is not.
func TestBodyLimit(t *testing.T) {
	const body = `{"env":"dev","appid":"app","hostname":"h1","status":1}`
	s := newServer(t, WithMaxBody(int64(len(body))))
	expect(t, s, wire.PathRegister, " "+body, badRequest)
	if got := fetch(t, s, "app").Instances; len(got) != 0 {
		t.Errorf("a refused body registered %v", got)
	}
	expect(t, s, wire.PathRegister, body, registerOK)
	expect(t, s, wire.PathFetchAll, strings.Repeat("x", 10*len(body)), post(t, s, wire.PathFetchAll, ""))
}

func TestOptionsAreChecked(t *testing.T) {
	tests := map[string]struct {
		opt  Option
		says string
	}{
		"empty env":       {WithEnv(""), "env is empty"},
		"env with -":      {WithEnv("a-b"), `env "a-b" contains '-'`},
		"empty node name": {WithNodeName(""), "node name is empty"},
		"advertise":       {WithAdvertise("somewhere"), `"somewhere" is not host:port`},
		"wildcard":        {WithAdvertise(":6666"), `":6666" is not host:port with a host`},
		"max body":        {WithMaxBody(0), "0 bytes must be positive"},
		"expiry":          {WithExpiry(Expiry{}), "must all be positive"},
		"logger":          {WithLogger(nil), "logger is nil"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := New(tt.opt)
			if err == nil {
				_ = s.Close()
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), "registryserver: ") || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want one that says %q", err, tt.says)
			}
		})
	}
}
