package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	gresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/endpoint"
	"github.com/rollcall-go/rollcall/registry"
)

// show writes news as one line each: the endpoints' IDs and weights, or the
// reason why there are none, or the error.
func show(news []any) (lines []string) {
	for _, n := range news {
		switch n := n.(type) {
		case error:
			lines = append(lines, "error: "+n.Error())
		case gresolver.State:
			words := []string{"state:"}
			for _, ep := range n.Endpoints {
				inst, _ := endpoint.From(ep)
				words = append(words, fmt.Sprintf("%s/%d", inst.ID, inst.Weight))
			}
			lines = append(lines, strings.Join(words, " ")+endpoint.Reason(n))
		}
	}
	return lines
}

func expect(t *testing.T, cc *channel, when string, want ...string) {
	t.Helper()
	if got := show(cc.news()); !slices.Equal(got, want) {
		t.Errorf("%s: the channel was told\n\t%s\nwant\n\t%s", when, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

const (
	downText    = "discovery:///greeter: fake: greeter: nodes n1 refused, n2 timed out: no registry node answers"
	unknownText = "discovery:///greeter: fake: greeter in env prod, asked n1: service unknown to the registry"
)

// What the channel is told for every answer of the registry, before and after
// it has had endpoints.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		cc, _ := build(t, src, "discovery:///greeter")
		weight := func(w uint32) func(*registry.Instance) { return func(i *registry.Instance) { i.Weight = w } }
		for _, step := range []struct {
			when string
			do   func()
			want []string
		}{
			{"nothing known yet", func() {}, nil},
			{"unknown, before any state", func() { src.fails(errUnknown) }, []string{"error: " + unknownText}},
			{"the same again", func() { src.fails(errUnknown) }, nil},
			{"unavailable, before any state", func() { src.fails(errDown) }, []string{"error: " + downText}},
			{"the first set", func() { src.shows(instance("a"), instance("b")) }, []string{"state: a/1 b/1"}},
			{"the same set", func() { src.shows(instance("a"), instance("b")) }, nil},
			{"a weight changed", func() { src.shows(instance("a"), instance("b", weight(5))) }, []string{"state: a/1 b/5"}},
			{"unavailable: the set stands", func() { src.fails(errDown) }, []string{"error: " + downText}},
			{"the same set takes the error back", func() { src.shows(instance("a"), instance("b", weight(5))) }, []string{"state: a/1 b/5"}},
			{"an empty set is no set", func() { src.shows() }, []string{"error: discovery:///greeter: the registry says neither who serves it nor that nobody does"}},
			{"unknown: nobody left", func() { src.fails(errUnknown) }, []string{"state:" + unknownText, "error: " + unknownText}},
			{"the same again", func() { src.fails(errUnknown) }, nil},
			{"unavailable while there is nobody", func() { src.fails(errDown) }, []string{"error: " + downText}},
			{"unknown again", func() { src.fails(errUnknown) }, []string{"state:" + unknownText, "error: " + unknownText}},
			{"somebody", func() { src.shows(instance("a")) }, []string{"state: a/1"}},
		} {
			step.do()
			time.Sleep(retry.Max) // errors closer together than that are paced
			expect(t, cc, step.when, step.want...)
		}
	})
}

func TestFilteredToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		cc, _ := build(t, src, "discovery:///greeter?zone=a")
		in := func(zone string) func(*registry.Instance) { return func(i *registry.Instance) { i.Zone = zone } }
		none := `discovery:///greeter?zone=a: none of the 2 instances of "greeter" can be called: 2 not with zone "a" (zones seen: "b", "c")`

		src.shows(instance("1", in("b")), instance("2", in("c")))
		expect(t, cc, "before any state", "error: "+none)
		src.shows(instance("1", in("a")), instance("2", in("c")))
		expect(t, cc, "one fits", "state: 1/1")
		src.shows(instance("1", in("a")), instance("3", in("d")))
		expect(t, cc, "others changed", nil...)
		src.shows(instance("1", in("b")), instance("2", in("c")))
		expect(t, cc, "none fits any more", "state:"+none, "error: "+none)
	})
}

// A registry that is away for an hour, in each of the ways it can be, is used
// again within a second.
func TestHealsWithinASecond(t *testing.T) {
	for name, outage := range map[string]struct {
		begin, end func(*source)
		want       string
	}{
		"Watch fails": {
			begin: func(s *source) { s.down(errDown) },
			end:   func(s *source) { s.down(nil) },
			want:  downText,
		},
		"Next fails": {
			begin: func(s *source) { s.fails(errDown) },
			end:   func(*source) {},
			want:  downText,
		},
		"the watch is closed": {
			begin: func(s *source) { s.fails(fmt.Errorf("fake: %w", registry.ErrClosed)) },
			end:   func(*source) {},
			want:  "discovery:///greeter: fake: closed",
		},
		"no answer at all": {
			begin: func(*source) {},
			end:   func(*source) {},
			want:  "discovery:///greeter: the registry has given no answer for 5s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := newSource()
				outage.begin(src)
				cc, _ := build(t, src, "discovery:///greeter")
				time.Sleep(time.Hour)
				expect(t, cc, "after an hour", "error: "+outage.want)
				if n := src.used().watches; n > 2*3600 {
					t.Errorf("%d calls of Watch in an hour", n)
				}
				outage.end(src)
				src.shows(instance("a"))
				time.Sleep(time.Second)
				expect(t, cc, "a second later", "state: a/1")
			})
		})
	}
}

// What follows a single error is not put off.
func TestGoodNewsAfterAnErrorComesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		cc, _ := build(t, src, "discovery:///greeter")
		for i := range 100 {
			src.fails(fmt.Errorf("outage %d", i))
			time.Sleep(retry.Max)
		}
		cc.news()
		src.shows(instance("a"))
		expect(t, cc, "after the last error of an outage", "state: a/1")
		src.fails(errDown)
		cc.news()
		src.shows(instance("a"))
		expect(t, cc, "after one more", "state: a/1")

		src.fails(errDown)
		cc.news()
		src.fails(errUnknown)
		cc.news()
		src.shows(instance("a"))
		time.Sleep(2 * retry.Base)
		expect(t, cc, "the outage's patience is forgotten: shortly after two", "state: a/1")
	})
}

// A watcher that returns errors without waiting does not keep a processor busy.
func TestErrorsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &restless{}
		cc, _ := build(t, reg, "discovery:///greeter")
		time.Sleep(time.Minute)
		if n := len(cc.news()); n < 30 || n > 150 {
			t.Errorf("%d errors in a minute, want about one a second", n)
		}
	})
}

// restless is a registry whose watcher always has a new error.
type restless struct{ n int }

func (r *restless) Watch(context.Context, string) (registry.Watcher, error) { return r, nil }
func (r *restless) Next(context.Context) (registry.Snapshot, error) {
	r.n++
	return registry.Snapshot{}, fmt.Errorf("error %d", r.n)
}
func (*restless) Refresh()     {}
func (*restless) Close() error { return nil }

// Nothing in the error may look like a gRPC status: a picker's status ends even
// calls that wait for ready.
func TestReportedErrorIsNoStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.fails(fmt.Errorf("a registry over gRPC: %w", status.Error(codes.Internal, "broken")))
		cc, _ := build(t, src, "discovery:///greeter")
		news := cc.news()
		if len(news) != 1 {
			t.Fatalf("got %v, want one error", news)
		}
		var se interface{ GRPCStatus() *status.Status }
		if err := news[0].(error); errors.As(err, &se) || !strings.Contains(err.Error(), "a registry over gRPC: ") {
			t.Errorf("got %v, with a status inside: %v", err, se != nil)
		}
	})
}

func TestResolveNowIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		src.shows(instance("a"))
		_, r := build(t, src, "discovery:///greeter")
		synctest.Wait()
		begin := time.Now()
		for range 250 { // 2.5 s of a channel that loses connections
			r.ResolveNow(gresolver.ResolveNowOptions{})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		r.ResolveNow(gresolver.ResolveNowOptions{})
		var after []time.Duration
		for _, at := range src.used().refreshes {
			after = append(after, at.Sub(begin))
		}
		want := []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second, 62500 * time.Millisecond}
		if !slices.Equal(after, want) {
			t.Errorf("Refresh was called after %v, want %v", after, want)
		}
	})
}

// What the policy refuses makes the registry look again, and is not repeated.
func TestRefusedState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		cc, _ := build(t, src, "discovery:///greeter")
		cc.refuse = balancer.ErrBadResolverState
		src.shows(instance("a"))
		time.Sleep(time.Minute)
		expect(t, cc, "refused", "state: a/1")
		if n := len(src.used().refreshes); n != 1 {
			t.Errorf("Refresh was called %d times, want once", n)
		}
		cc.refuse = nil
		src.shows(instance("b"))
		expect(t, cc, "another set", "state: b/1")
	})
}

func TestLogsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		src := newSource()
		src.shows(instance("a"), instance("b", func(i *registry.Instance) { i.TLS = true }))
		cc, _ := build(t, src, "discovery:///greeter", WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		cc.news()
		src.shows(instance("a"))
		cc.news()
		src.fails(errDown)
		cc.news()
		src.fails(errDown)
		cc.news()
		var lines []string
		for line := range strings.Lines(log.String()) {
			_, line, _ = strings.Cut(strings.TrimSpace(line), " ") // the time
			lines = append(lines, line)
		}
		want := []string{
			`level=INFO msg=resolved target=discovery:///greeter instances=1 left_out="1 speaking tls, and the channel's credentials are insecure"`,
			`level=WARN msg="cannot resolve" target=discovery:///greeter err="fake: greeter: nodes n1 refused, n2 timed out: no registry node answers"`,
		}
		if !slices.Equal(lines, want) {
			t.Errorf("logged\n\t%s\nwant\n\t%s", strings.Join(lines, "\n\t"), strings.Join(want, "\n\t"))
		}
	})
}

func TestBuildRefusesWhatCannotHeal(t *testing.T) {
	for name, test := range map[string]struct {
		builder gresolver.Builder
		target  string
	}{
		"bad target":  {NewBuilder(newSource()), "discovery:///greeter?region=eu"},
		"no registry": {NewBuilder(nil), "discovery:///greeter"},
	} {
		u, err := parse(test.target)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := test.builder.Build(u, &channel{}, gresolver.BuildOptions{}); err == nil {
			r.Close()
			t.Errorf("%s: Build did not refuse", name)
		}
	}
}
