package resolver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/codes"

	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/registry"
)

// configOf is a service config with that policy, under which calls may take so
// many seconds.
func configOf(policy string, seconds int) string {
	return fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}],"methodConfig":[{"name":[{}],"timeout":"%ds"}]}`, policy, seconds)
}

func set(t *testing.T, c *ServiceConfig, js string) {
	t.Helper()
	if err := c.Set(js); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

// configured runs the test with two servers that take a minute for a call, and channels that
// use the config. Their default lets calls take 9 s.
func configured(t *testing.T, test func(t *testing.T, sys *testenv.System, config *ServiceConfig, dial func(...grpc.DialOption) *grpc.ClientConn)) {
	synctest.Test(t, func(t *testing.T) {
		sys, config := testenv.New(t), &ServiceConfig{}
		for _, id := range []string{"a", "b"} {
			sys.Start(registry.Instance{ID: id}).OnCall(testenv.Delay(time.Minute))
		}
		test(t, sys, config, func(opts ...grpc.DialOption) *grpc.ClientConn {
			return sys.Dial(echoTarget, append([]grpc.DialOption{
				grpc.WithResolvers(NewBuilder(sys.Registry, WithServiceConfig(config))),
				grpc.WithDefaultServiceConfig(configOf(roundrobin.Name, 9))}, opts...)...)
		})
	})
}

// expectTimeout checks how long calls may take, by the config that is in force.
func expectTimeout(t *testing.T, conn *grpc.ClientConn, seconds int) {
	t.Helper()
	expectFailure(t, conn, 0, time.Duration(seconds)*time.Second, codes.DeadlineExceeded, "")
}

func TestServiceConfigIsReplacedWithoutAReconnect(t *testing.T) {
	configured(t, func(t *testing.T, sys *testenv.System, config *ServiceConfig, dial func(...grpc.DialOption) *grpc.ClientConn) {
		conn, other := dial(), dial()
		expectTimeout(t, conn, 9) // the default, as there is none yet
		for _, seconds := range []int{1, 2, 3} {
			set(t, config, configOf(roundrobin.Name, seconds))
			expectTimeout(t, conn, seconds)
			expectTimeout(t, other, seconds)
		}
		expectTimeout(t, dial(), 3)
		if got := sys.Network.Dials("10.0.0.2:9000"); got != 3 {
			t.Errorf("three channels made %d connections to a server", got)
		}
	})
}

func TestServiceConfigThatGRPCRefuses(t *testing.T) {
	configured(t, func(t *testing.T, _ *testenv.System, config *ServiceConfig, dial func(...grpc.DialOption) *grpc.ClientConn) {
		conn := dial()
		for js, why := range map[string]string{
			"":     "no JSON service config provided",
			"nope": "invalid character",
			`{"loadBalancingConfig":[{"fastest":{}}]}`:                                     "fastest",
			`{"loadBalancingConfig":[{"ring_hash_experimental":{"minRingSize":9000000}}]}`: "9000000 is greater than max supported value 8388608",
			`{"methodConfig":[{"name":[{"method":"Get"}]}]}`:                               "method",
			`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":1}}]}`:             "invalid retry policy",
			`{"methodConfig":[],"retryThrottling":{"maxTokens":1001,"tokenRatio":1}}`:      "out of range (0, 1000]",
			`{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":1}}]}`:   "must be >= 2",
		} {
			err := config.Set(js)
			if err == nil || !strings.Contains(err.Error(), why) || !strings.HasPrefix(err.Error(), "resolver: gRPC refuses the service config: ") {
				t.Errorf("%q: %v, want a refusal that says %q", js, err, why)
			}
		}
		expectTimeout(t, conn, 9)
		set(t, config, configOf(roundrobin.Name, 1))
		if err := config.Set("nope"); err == nil {
			t.Error("no error")
		}
		expectTimeout(t, conn, 1)
		expectTimeout(t, dial(), 1)
	})
}

func TestServiceConfigOfAChannelThatTakesNone(t *testing.T) {
	configured(t, func(t *testing.T, _ *testenv.System, config *ServiceConfig, dial func(...grpc.DialOption) *grpc.ClientConn) {
		set(t, config, configOf(roundrobin.Name, 1))
		conn := dial(grpc.WithDisableServiceConfig())
		expectTimeout(t, conn, 9)
		set(t, config, configOf(roundrobin.Name, 2))
		expectTimeout(t, conn, 9)
	})
}

// However configs and instances change at the same time, the last of both counts.
func TestServiceConfigAndInstancesChangeTogether(t *testing.T) {
	configured(t, func(t *testing.T, sys *testenv.System, config *ServiceConfig, dial func(...grpc.DialOption) *grpc.ClientConn) {
		conn := dial()
		conn.Connect()
		server := sys.Start(registry.Instance{ID: "c"})
		server.OnCall(testenv.Delay(time.Minute))
		for weight := range 50 {
			var changing sync.WaitGroup
			for i := range 4 {
				changing.Go(func() {
					if err := config.Set(configOf(roundrobin.Name, 10+i)); err != nil {
						t.Error(err)
					}
				})
			}
			changing.Go(func() { server.Update(func(i *registry.Instance) { i.Weight = uint32(weight + 1) }) })
			changing.Wait()
		}
		set(t, config, configOf(roundrobin.Name, 1))
		expectTimeout(t, conn, 1)
	})
}

// The config outlasts what gRPC throws away when there are no calls, and what is
// set meanwhile goes for the first call.
func TestServiceConfigOutlastsIdleness(t *testing.T) {
	configured(t, func(t *testing.T, _ *testenv.System, config *ServiceConfig, dial func(...grpc.DialOption) *grpc.ClientConn) {
		set(t, config, configOf(roundrobin.Name, 1))
		conn := dial()
		expectTimeout(t, conn, 1)
		time.Sleep(time.Hour)
		expectTimeout(t, conn, 1)
		time.Sleep(time.Hour)
		set(t, config, configOf(roundrobin.Name, 2))
		expectTimeout(t, conn, 2)
	})
}

// A config that is set while there is nobody to call takes nothing away: neither
// the reason, nor the instances when they come.
func TestServiceConfigWhileThereIsNobody(t *testing.T) {
	for _, name := range []string{"pick_first", roundrobin.Name} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sys, src, config := testenv.New(t), newSource(), &ServiceConfig{}
				src.down(errDown)
				conn := sys.Dial("discovery:///greeter", grpc.WithResolvers(NewBuilder(src, WithServiceConfig(config))), policy(name), grpc.WithIdleTimeout(0))
				server := sys.Listen(registry.Instance{ID: "a"})
				server.OnCall(testenv.Delay(time.Minute))

				expectFailure(t, conn, 0, 0, codes.Unavailable, downText)
				set(t, config, configOf(name, 1))
				expectFailure(t, conn, 0, 0, codes.Unavailable, downText)
				src.shows(server.Instance())
				src.down(nil)
				time.Sleep(time.Second)
				expectTimeout(t, conn, 1)

				gone := errUnknown.Error()
				src.fails(errUnknown)
				synctest.Wait()
				set(t, config, configOf(name, 2))
				if name == roundrobin.Name {
					gone = "no children to pick from" // it shows no resolver's error
				}
				expectFailure(t, conn, 0, 0, codes.Unavailable, gone)
				src.shows(server.Instance())
				synctest.Wait()
				expectTimeout(t, conn, 2)

				src.fails(errDown)
				synctest.Wait()
				set(t, config, configOf(name, 3))
				expectTimeout(t, conn, 3)
			})
		})
	}
}

func TestFollowFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "greeter.json")
	write := func(t *testing.T, js string) {
		if err := os.WriteFile(path, []byte(js), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(fileInterval)
		synctest.Wait()
	}
	synctest.Test(t, func(t *testing.T) {
		var config ServiceConfig
		var failures []error
		var following sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		following.Go(func() { config.FollowFile(ctx, path, func(err error) { failures = append(failures, err) }) })
		expect := func(js string, failed int) {
			t.Helper()
			if got, _ := config.current(); got != js || len(failures) != failed {
				t.Errorf("the config is %q, want %q; failures so far, want %d: %v", got, js, failed, failures)
			}
		}
		one, two := configOf(roundrobin.Name, 1), configOf(roundrobin.Name, 2)
		synctest.Wait()
		expect("", 1) // no such file
		time.Sleep(time.Minute)
		synctest.Wait()
		expect("", 1)
		if !errors.Is(failures[0], os.ErrNotExist) {
			t.Errorf("%v, want that there is no such file", failures[0])
		}
		write(t, one)
		expect(one, 1)
		write(t, two)
		expect(two, 1)
		write(t, two[:20]) // half written
		expect(two, 2)
		time.Sleep(time.Minute)
		synctest.Wait()
		expect(two, 2)
		if !strings.Contains(failures[1].Error(), path) || !strings.Contains(failures[1].Error(), "unexpected end of JSON input") {
			t.Errorf("%v, want what is wrong with %s", failures[1], path)
		}
		write(t, two)
		expect(two, 2)
		write(t, two[:20])
		expect(two, 3) // it is news again
		write(t, one)
		expect(one, 3)
		cancel()
		following.Wait()
		write(t, two)
		expect(one, 3)
	})
}
