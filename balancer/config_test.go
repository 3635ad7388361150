package balancer

import (
	"encoding/json"
	"strings"
	"testing"

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

func FuzzParseConfig(f *testing.F) {
	for _, js := range []string{`{}`, `{"picker": {"random": {}}}`, `{"picker": {"weighted": {}}}`, `{"picker": null}`, `[1]`, `{"piker":1}`} {
		f.Add(js)
	}
	f.Fuzz(func(t *testing.T, js string) {
		cfg, err := parseConfig(json.RawMessage(js))
		switch {
		case err != nil && (cfg != nil || !strings.HasPrefix(err.Error(), "balancer: ")):
			t.Errorf("%v, %q", cfg, err)
		case err == nil:
			out, err := json.Marshal(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := parseConfig(out); err != nil || again.picker != cfg.picker {
				t.Errorf("%s became %s: %v", js, out, err)
			}
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
}

func TestAMistakeInTheConfigFailsNewClient(t *testing.T) {
	err := valid(`{"loadBalancingConfig": [{"rollcall": {"picker": {"fastest": {}}}}]}`)
	if err == nil || !strings.Contains(err.Error(), `unknown picker "fastest": "picker" must hold exactly one of least_request, p2c, random, round_robin, weighted_round_robin`) {
		t.Error(err)
	}
}
