package bench

import (
	"flag"
	"slices"
	"testing"
	"time"

	orcav3 "github.com/cncf/xds/go/xds/data/orca/v3"
	gbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/balancer/weightedroundrobin"
	gresolver "google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/balancer"
)

// policy is one way of balancing, as gRPC knows it.
type policy struct {
	name   string // in benchmarks and tables
	policy string // as registered with gRPC
	config string
	// base is the name of the policy that this is with a feature switched on, and
	// variant says that tables have it only beside others that differ in features.
	base    string
	variant bool
	// learn does what the policy needs to know before it balances as it should.
	learn func(tb testing.TB, bed *bed)
	// most is how many connections are brought up when -slow is not given: it
	// takes these policies time in proportion to the square.
	most int
	// square says that no trick spares it that when it is only set up for picks.
	square bool
	// enter prepares what the policy keeps in global variables.
	enter func()
	// address adds to an endpoint's address what the policy reads there.
	address func(addr gresolver.Address, weight uint32) gresolver.Address
}

var slow = flag.Bool("slow", false, "also measure what takes a minute")

// Policies that targets are about.
const (
	grpcRoundRobin   = "grpc.round_robin"
	grpcWeighted     = "grpc.weighted_round_robin"
	rollcallRandom   = "rollcall.random"
	rollcallRound    = "rollcall.round_robin"
	rollcallWeighted = "rollcall.weighted_round_robin"
	rollcallP2C      = "rollcall.p2c"
)

// policies are all that are measured. The build tag "peers" adds those with many
// dependencies.
var policies = slices.Concat([]policy{
	{name: grpcRoundRobin, policy: roundrobin.Name, most: 1000},
	{name: grpcWeighted, policy: weightedroundrobin.Name, most: 1000, square: true, learn: reportLoads,
		config: `{"blackoutPeriod":"0s","weightUpdatePeriod":"0.1s"}`},
	{name: "grpc.least_request", policy: leastrequest.Name, most: 1000, config: `{"choiceCount":2}`},
	rollcall(rollcallRandom, `"picker":{"random":{}}`),
	rollcall(rollcallRound, `"picker":{"round_robin":{}}`),
	rollcall("rollcall.least_request", `"picker":{"least_request":{}}`),
	rollcall("rollcall.everything", `"ejection":{},"slowStart":{"window":"30s"},"zone":{"local":"own"}`),
}, features(rollcallP2C, `"picker":{"p2c":{}}`), features(rollcallWeighted, `"picker":{"weighted_round_robin":{}}`))

// rollcall is the policy with these fields in its configuration.
func rollcall(name, fields string) policy {
	return policy{name: name, policy: balancer.Name, config: "{" + fields + "}"}
}

// features are a picker, with stall detection, which is on by default, and what it
// is without that and with other features.
func features(name, picker string) []policy {
	bare := rollcall(name+" without stall detection", picker+`,"stallDetection":{"off":true}`)
	plain := rollcall(name, picker)
	bare.variant = true
	all := []policy{bare, plain}
	for _, f := range [][2]string{
		{"ejection", `"ejection":{}`},
		{"slow start", `"slowStart":{"window":"30s"}`},
		{"zones", `"zone":{"local":"own"}`},
	} {
		with := rollcall(name+" with "+f[0], picker+","+f[1])
		with.base, with.variant = name, true
		all = append(all, with)
	}
	return all
}

// named returns the policy of this name.
func named(name string) policy {
	return policies[slices.IndexFunc(policies, func(p policy) bool { return p.name == name })]
}

// brings says whether bringing up n connections with p is to be measured.
func (p policy) brings(n int) bool { return p.most == 0 || n <= p.most || *slow }

// picks says whether picks among n are to be measured, for which p has to be set up.
func (p policy) picks(n int) bool { return !p.square || p.brings(n) }

// reportLoads lets every connection report a load from which grpc-go's weighted
// round robin computes its weights, and waits until it has.
func reportLoads(tb testing.TB, bed *bed) {
	picker := bed.cc.State().Picker
	for i := range len(bed.cc.SubConns()) {
		result, err := picker.Pick(gbalancer.PickInfo{Ctx: tb.Context()})
		if err != nil {
			tb.Fatal(err)
		}
		result.Done(gbalancer.DoneInfo{BytesSent: true, BytesReceived: true, ServerLoad: &orcav3.OrcaLoadReport{
			ApplicationUtilization: 0.5, RpsFractional: float64(100 * (1 + i%5)),
		}})
	}
	time.Sleep(300 * time.Millisecond) // its update period is 100 ms
}
