package balancer

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials/insecure"
)

func TestParseConfig(t *testing.T) {
	parser := gbalancer.Get(Name).(gbalancer.ConfigParser)
	for js, want := range map[string]Picker{
		``:                                      WeightedRoundRobin{},
		`{}`:                                    WeightedRoundRobin{},
		`null`:                                  WeightedRoundRobin{},
		`{"picker": null}`:                      WeightedRoundRobin{},
		`{"picker": {"random": {}}}`:            Random{},
		`{"picker": {"random": null}}`:          Random{},
		`{"picker": {"round_robin": {}}}`:       RoundRobin{},
		`{"picker": {"round_robin":{"new":1}}}`: RoundRobin{},
		`{"picker": {"weighted_round_robin": {}}, "some_future_thing": 1}`: WeightedRoundRobin{},
	} {
		cfg, err := parser.ParseConfig(json.RawMessage(js))
		if err != nil {
			t.Errorf("%s: %v", js, err)
		} else if got := cfg.(*config).picker; got != want {
			t.Errorf("%s: %T, want %T", js, got, want)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for js, want := range map[string]string{
		`{"picker": {"weighted": {}}}`:                  `unknown picker "weighted": "picker" must hold exactly one of least_request, p2c, random, round_robin, weighted_round_robin, as in {"picker":{"weighted_round_robin":{}}}`,
		`{"picker": {"Random": {}}}`:                    `unknown picker "Random"`,
		`{"picker": {}}`:                                `exactly one of least_request, p2c, random, round_robin, weighted_round_robin`,
		`{"picker": {"random": {}, "round_robin": {}}}`: `it holds 2: random, round_robin`,
		`{"picker": "random"}`:                          `as in {"picker":{"weighted_round_robin":{}}}`,
		`{"picker": {"random": 5}}`:                     `picker "random" takes an object, as in {"picker":{"random":{}}}`,
		`{"piker": {"random": {}}}`:                     `unknown field "piker": write "picker"`,
		`{"Picker": {"random": {}}}`:                    `unknown field "Picker": write "picker"`,
		`{"pickers": {"random": {}}}`:                   `unknown field "pickers": write "picker"`,
		`{"random": {}}`:                                `"random" belongs into "picker": {"picker": {"random": {}}}`,
		`[]`:                                            `must be an object`,
		`{"picker": {"random": {}}`:                     `unexpected end of JSON input`,
	} {
		if cfg, err := parseConfig(json.RawMessage(js)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want an error with %q", js, cfg, err, want)
		}
	}
}

// withDefaults is what a feature is with its defaults.
func withDefaults[F feature[F]](f F) F {
	f, err := f.complete()
	if err != nil {
		panic(err)
	}
	return f
}

func TestParseFeatures(t *testing.T) {
	const second = Duration(time.Second)
	usual := defaultSettings()
	with := func(set func(s *settings)) settings {
		s := usual
		set(&s)
		return s
	}
	for js, want := range map[string]settings{
		`{}`: usual,
		`{"stallDetection": {}, "subset": null, "zone": null, "ejection": null, "slowStart": null}`: usual,
		`{"stallDetection": {"off": true}}`:                                     with(func(s *settings) { s.stall.Off = true }),
		`{"stallDetection": {"minWait": "200ms", "times": 3}}`:                  with(func(s *settings) { s.stall = StallDetection{MinWait: second / 5, Times: 3} }),
		`{"picker": {"p2c": {}}}`:                                               with(func(s *settings) { s.picker = P2C{} }),
		`{"picker": {"least_request": {}}}`:                                     with(func(s *settings) { s.picker = LeastRequest{ChoiceCount: 2} }),
		`{"picker": {"least_request": {"choiceCount": 10}}}`:                    with(func(s *settings) { s.picker = LeastRequest{ChoiceCount: 10} }),
		`{"ejection": {}}`:                                                      with(func(s *settings) { s.ejection = withDefaults(Ejection{}) }),
		`{"ejection": {"consecutiveFailures": 9, "tolerance": 1, "future": 1}}`: with(func(s *settings) { s.ejection = withDefaults(Ejection{ConsecutiveFailures: 9, Tolerance: 1}) }),
		`{"ejection": {"baseTime": "1m"}}`:                                      with(func(s *settings) { s.ejection = withDefaults(Ejection{BaseTime: 60 * second, MaxTime: 60 * second}) }),
		`{"slowStart": {"window": "30s"}}`:                                      with(func(s *settings) { s.slowStart = SlowStart{Window: 30 * second, MinShare: 0.1, Curve: 1} }),
		`{"slowStart": {"window": "1.5s", "minShare": 0.5, "curve": 2}}`:        with(func(s *settings) { s.slowStart = SlowStart{Window: 3 * second / 2, MinShare: 0.5, Curve: 2} }),
		`{"zone": {"local": "a"}}`:                                              with(func(s *settings) { s.zone = Zone{Local: "a", Overprovision: 1.4} }),
		`{"zone": {"local": "a", "overprovision": 1}}`:                          with(func(s *settings) { s.zone = Zone{Local: "a", Overprovision: 1} }),
		`{"subset": {"size": 20, "key": "me"}}`:                                 with(func(s *settings) { s.subset = Subset{Size: 20, Key: "me"} }),
	} {
		cfg, err := parseConfig(json.RawMessage(js))
		if err != nil {
			t.Errorf("%s: %v", js, err)
			continue
		}
		if cfg.settings != want {
			t.Errorf("%s: %+v, want %+v", js, cfg.settings, want)
		}
		wantRoundTrip(t, cfg)
	}
}

// wantRoundTrip checks that gRPC's logs show the configuration as one can write it.
func wantRoundTrip(t *testing.T, cfg *config) {
	t.Helper()
	js, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseConfig(js)
	if err != nil || again.settings != cfg.settings {
		t.Errorf("%+v became %s: %v", cfg.settings, js, err)
	}
}

func TestParseFeaturesRefuses(t *testing.T) {
	for js, want := range map[string]string{
		`{"picker": {"least_request": {"choiceCount": 1}}}`:  `balancer: picker "least_request": "choiceCount" must be 2 to 10, not 1`,
		`{"picker": {"least_request": {"choiceCount": 11}}}`: `"choiceCount" must be 2 to 10, not 11`,
		`{"picker": {"least_request": {"choiceCount": 0}}}`:  `"choiceCount" must be 2 to 10, not 0`,
		`{"picker": {"least_request": {"choiceCount": -1}}}`: `as in {"picker":{"least_request":{"choiceCount":2}}}`,
		`{"slowStart": {}}`:                                           `balancer: slowStart: "window" must be given and more than 0`,
		`{"slowStart": {"window": "-1s"}}`:                            `"window" must be given and more than 0`,
		`{"slowStart": {"window": "1s", "minShare": 2, "curve": -1}}`: `"minShare" must be more than 0 and at most 1; "curve" must be more than 0 and at most 100`,
		`{"slowStart": {"window": "1s", "minShare": -0.1}}`:           `"minShare" must be more than 0`,
		`{"slowStart": {"window": "1s", "curve": 101}}`:               `"curve" must be more than 0 and at most 100`,
		`{"slowStart": {"window": 30}}`:                               `slowStart: a time must be a string like "1.5s", not 30`,
		`{"slowStart": {"window": "30"}}`:                             `a time must be a string like "1.5s": time: missing unit`,
		`{"slowStart": {"windows": "30s"}}`:                           `slowStart: unknown field "windows": write "window"`,
		`{"slowstart": {"window": "30s"}}`:                            `unknown field "slowstart": write "slowStart"`,
		`{"slow_start": {"window": "30s"}}`:                           `unknown field "slow_start": write "slowStart"`,
		`{"slowStart": "30s"}`:                                        `slowStart`,
		`{"zone": {}}`:                                                `balancer: zone: "local" must name the client's zone`,
		`{"zone": "a"}`:                                               `balancer: zone`,
		`{"zone": {"local": "a", "overprovision": 0.5}}`:              `"overprovision" must be at least 1 and at most 1000`,
		`{"zone": {"local": "a", "overprovision": 1e9}}`:              `"overprovision" must be at least 1 and at most 1000`,
		`{"zone": {"Local": "a"}}`:                                    `zone: unknown field "Local": write "local"`,
		`{"zones": {"local": "a"}}`:                                   `unknown field "zones": write "zone"`,
		`{"subset": {}}`:                                              `balancer: subset: "size" must be given and at least 1`,
		`{"subset": {"size": -1}}`:                                    `balancer: subset`,
		`{"subset": {"size": 1e10}}`:                                  `balancer: subset`,
		`{"subset": 20}`:                                              `balancer: subset`,
		`{"stallDetection": {"minWait": "-1s"}}`:                      `balancer: stallDetection: "minWait" must be more than 0`,
		`{"stallDetection": {"times": 0.5}}`:                          `"times" must be at least 1`,
		`{"stalldetection": {}}`:                                      `write "stallDetection"`,
		`{"ejection": {"interval": "1ms"}}`:                           `balancer: ejection: "interval" must be at least 1s`,
		`{"ejection": {"tolerance": 1.5}}`:                            `"tolerance" must be more than 0 and at most 1`,
		`{"ejection": {"minHealthy": -1}}`:                            `"minHealthy" must be more than 0 and at most 1`,
		`{"ejection": {"baseTime": "10s", "maxTime": "1s"}}`:          `"maxTime" must be at least "baseTime"`,
		`{"ejection": {"consecutiveFailure": 3}}`:                     `ejection: unknown field "consecutiveFailure": write "consecutiveFailures"`,
		`{"ejection": []}`:                                            `balancer: ejection`,
	} {
		if cfg, err := parseConfig(json.RawMessage(js)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want an error with %q", js, cfg, err, want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, js := range []string{
		`{}`, `{"picker": {"random": {}}}`, `{"picker": {"weighted": {}}}`, `{"picker": null}`, `[1]`, `{"piker":1}`,
		`{"ejection": {}, "zone": {"local": "a"}, "subset": {"size": 3}}`, `{"slowStart": {"window": "1s", "curve": 2}}`,
		`{"stallDetection": {"off": true, "minWait": "1h"}}`, `{"picker": {"least_request": {"choiceCount": 3}}}`,
	} {
		f.Add(js)
	}
	f.Fuzz(func(t *testing.T, js string) {
		cfg, err := parseConfig(json.RawMessage(js))
		switch {
		case err != nil && (cfg != nil || !strings.HasPrefix(err.Error(), "balancer: ")):
			t.Errorf("%v, %q", cfg, err)
		case err == nil:
			wantRoundTrip(t, cfg)
		}
	})
}

func TestParsePicker(t *testing.T) {
	for name, want := range map[string]Picker{"random": Random{}, "round_robin": RoundRobin{}, "weighted_round_robin": WeightedRoundRobin{}, "p2c": P2C{}, "least_request": LeastRequest{ChoiceCount: 2}} {
		if got, err := ParsePicker(name); err != nil || got != want {
			t.Errorf("%s: %T, %v", name, got, err)
		}
	}
	want := `balancer: unknown picker "rr": the known ones are least_request, p2c, random, round_robin, weighted_round_robin`
	if _, err := ParsePicker("rr"); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// valid says what gRPC says about a service config.
func valid(js string) error {
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(js))
	if err == nil {
		conn.Close()
	}
	return err
}

func TestServiceConfig(t *testing.T) {
	const base = `{
		"methodConfig": [{"name": [{}], "timeout": "1s"}],
		"LoadBalancingPolicy": "pick_first",
		"loadBalancingConfig": [{"round_robin": {}}]}`
	for want, got := range map[string]string{
		`{"loadBalancingConfig":[{"rollcall":{"picker":{"random":{}}}}]}`:               ServiceConfig(Random{}),
		`{"loadBalancingConfig":[{"rollcall":{"picker":{"weighted_round_robin":{}}}}]}`: ServiceConfig(nil),
		`{"loadBalancingConfig":[{"rollcall":{"picker":{"round_robin":{}}}}],` +
			`"methodConfig":[{"name":[{}],"timeout":"1s"}]}`: ServiceConfig(RoundRobin{}, WithBase(base)),
		`{"loadBalancingConfig":[{"rollcall":{"ejection":{},"picker":{"p2c":{}},"slowStart":{"window":"30s"},` +
			`"stallDetection":{"off":true},"subset":{"size":20},"zone":{"local":"a"}}}]}`: ServiceConfig(P2C{}, WithEjection(Ejection{}),
			WithSlowStart(SlowStart{Window: Duration(30 * time.Second)}), WithStallDetection(StallDetection{Off: true}),
			WithSubset(Subset{Size: 20}), WithZone(Zone{Local: "b"}), WithZone(Zone{Local: "a"})),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if err := valid(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
	for _, base := range []string{`{"methodConfig": `, `[]`, `"x"`, `{"methodConfig": 5}`, `{"loadBalancingConfig": []} x`} {
		if err := valid(ServiceConfig(Random{}, WithBase(base))); err == nil {
			t.Errorf("gRPC takes the base %s", base)
		}
	}
	if err := valid(ServiceConfig(Random{}, WithBase("null"))); err != nil {
		t.Error(err)
	}
	for want, js := range map[string]string{
		`"choiceCount" must be 2 to 10`:                  ServiceConfig(LeastRequest{ChoiceCount: 1}),
		`"window" must be given and more than 0`:         ServiceConfig(nil, WithSlowStart(SlowStart{})),
		`"overprovision" must be at least 1`:             ServiceConfig(nil, WithZone(Zone{Local: "a", Overprovision: 0.1})),
		`"tolerance" must be more than 0`:                ServiceConfig(nil, WithEjection(Ejection{Tolerance: -1})),
		`is invalid`:                                     ServiceConfig(nil, WithSlowStart(SlowStart{Window: 1, Curve: math.NaN()})),
		`"size" must be given and at least 1`:            ServiceConfig(nil, WithSubset(Subset{})),
		`"times" must be at least 1 and at most 1000000`: ServiceConfig(nil, WithStallDetection(StallDetection{Times: -3})),
	} {
		if err := valid(js); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %s", js, err, want)
		}
	}
}

func TestAMistakeInTheConfigFailsNewClient(t *testing.T) {
	err := valid(`{"loadBalancingConfig": [{"rollcall": {"picker": {"fastest": {}}}}]}`)
	if err == nil || !strings.Contains(err.Error(), `unknown picker "fastest": "picker" must hold exactly one of least_request, p2c, random, round_robin, weighted_round_robin`) {
		t.Error(err)
	}
}
