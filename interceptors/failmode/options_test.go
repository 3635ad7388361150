package failmode_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/pick"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

func TestParseMode(t *testing.T) {
	for want := failmode.Failfast; want <= failmode.Broadcast; want++ {
		if got, err := failmode.ParseMode(want.String()); err != nil || got != want {
			t.Errorf("ParseMode(%q) = %v, %v", want.String(), got, err)
		}
	}
	_, err := failmode.ParseMode("failback")
	if err == nil || !strings.Contains(err.Error(), `"failback"`) || !strings.Contains(err.Error(), "failfast, failretry, failover, failsafe, forking, broadcast") {
		t.Errorf("error: %v", err)
	}
	if got := failmode.Mode(9).String(); got != "mode(9)" {
		t.Errorf("unknown mode: %s", got)
	}
}

// attempts is how many attempts a call of the method makes that fails where it
// may have executed.
func attempts(t *testing.T, method string, mode failmode.Mode, opts []failmode.Option, callOpts ...grpc.CallOption) (n int) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: []outcome{{class: pick.Unanswered, code: codes.Unavailable}}}
		failmode.UnaryClientInterceptor(mode, opts...)(t.Context(), method, nil, nil, nil, f.invoke, callOpts...)
		n = len(f.made)
	})
	return n
}

func TestWhichMethodsMayRunAgain(t *testing.T) {
	opts := []failmode.Option{failmode.WithIdempotent("/shop.Orders/Cancel", "shop.Carts/Clear", "/stock.*", "/x.Y/*")}
	for method, want := range map[string]int{
		echov1.Echo_Get_FullMethodName:     3,
		echov1.Echo_Put_FullMethodName:     3,
		echov1.Echo_Add_FullMethodName:     1,
		echov1.Echo_Collect_FullMethodName: 1,
		"/rollcall.echo.v1.Echo/Unknown":   1,
		"/rollcall.echo.v1.EchoGetRequest": 1,
		"/rollcall.echo.v1/GetRequest":     1, // known, and no method
		"/shop.Orders/Cancel":              3,
		"/shop.Orders/CancelAll":           1,
		"/shop.Carts/Clear":                3,
		"/stock.Items/Count":               3,
		"/x.Y/Z":                           3,
		"/x.Yes/Z":                         1,
		"":                                 1,
		"/":                                1,
	} {
		for range 2 { // the second time it is remembered
			if got := attempts(t, method, failmode.Failover, opts); got != want {
				t.Errorf("%q: %d attempts, want %d", method, got, want)
			}
		}
	}
}

// counting counts how often a descriptor is asked for.
type counting struct {
	failmode.Descriptors
	asked int
}

func (c *counting) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	c.asked++
	return c.Descriptors.FindDescriptorByName(name)
}

func TestWithDescriptors(t *testing.T) {
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("bank.proto"), Package: new("bank"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Accounts"), Method: []*descriptorpb.MethodDescriptorProto{{
			Name: new("Close"), InputType: new(".bank.M"), OutputType: new(".bank.M"),
			Options: &descriptorpb.MethodOptions{IdempotencyLevel: descriptorpb.MethodOptions_IDEMPOTENT.Enum()},
		}}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(file); err != nil {
		t.Fatal(err)
	}
	known := &counting{Descriptors: files}
	interceptor := failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithDescriptors(known))
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{script: []outcome{{class: pick.Unanswered, code: codes.Unavailable}}}
			if interceptor(t.Context(), "/bank.Accounts/Close", nil, nil, nil, f.invoke); len(f.made) != 3 {
				t.Errorf("%d attempts", len(f.made))
			}
		})
	}
	if known.asked != 1 {
		t.Errorf("looked up %d times, want once", known.asked)
	}
}

// Options that are given nothing do nothing.
func TestEmptyOptions(t *testing.T) {
	opts := []failmode.Option{failmode.WithDescriptors(nil), failmode.WithObserver(nil), failmode.WithIdempotent()}
	if got := attempts(t, echov1.Echo_Get_FullMethodName, failmode.Failover, opts); got != 1 {
		t.Errorf("%d attempts, want 1: nothing says that the method may run again", got)
	}
}

func TestOptionsOfASingleCall(t *testing.T) {
	const unsafe, safe = echov1.Echo_Add_FullMethodName, echov1.Echo_Get_FullMethodName
	for name, tt := range map[string]struct {
		method string
		mode   failmode.Mode
		opts   []grpc.CallOption
		want   int
	}{
		"none":                {safe, failmode.Failover, nil, 3},
		"fewer attempts":      {safe, failmode.Failover, []grpc.CallOption{failmode.WithMaxAttempts(2)}, 2},
		"no attempts is one":  {safe, failmode.Failover, []grpc.CallOption{failmode.WithMaxAttempts(-1)}, 1},
		"more attempts":       {safe, failmode.Failover, []grpc.CallOption{grpc.WaitForReady(true), failmode.WithMaxAttempts(5), failmode.WithBackoff(1, 1)}, 5},
		"another mode":        {safe, failmode.Failover, []grpc.CallOption{failmode.WithMode(failmode.Failfast)}, 1},
		"a mode at all":       {safe, failmode.Failfast, []grpc.CallOption{failmode.WithMode(failmode.Failretry)}, 3},
		"an unknown mode":     {safe, failmode.Failover, []grpc.CallOption{failmode.WithMode(9)}, 1},
		"declared for once":   {unsafe, failmode.Failover, []grpc.CallOption{failmode.Idempotent(true)}, 3},
		"taken back for once": {safe, failmode.Failover, []grpc.CallOption{failmode.Idempotent(false)}, 1},
	} {
		if got := attempts(t, tt.method, tt.mode, nil, tt.opts...); got != tt.want {
			t.Errorf("%s: %d attempts, want %d", name, got, tt.want)
		}
	}
}

func TestBudgetIsSharedByTheCallsOfAnInterceptor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		interceptor := failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithBudget(0.2, 0), failmode.Idempotent(true))
		made, empty := 0, 0
		for range 1000 {
			f := &fake{script: []outcome{unavailable}}
			err := call(t.Context(), f, interceptor, failmode.WithBackoff(0, 0))
			made += len(f.made)
			if strings.Contains(err.Error(), failmode.ReasonBudgetEmpty) {
				empty++
			}
		}
		if made != 1200 || empty < 800 {
			t.Errorf("%d attempts for 1000 calls, %d errors name the budget; want 1200", made, empty)
		}
	})
}

// The record says which calls are unary.
func TestUnaryCallsAreToldFromStreams(t *testing.T) {
	invoker := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		if !pick.FromContext(ctx).Unary() {
			t.Error("a unary call is not said to be one")
		}
		return nil
	}
	streamer := func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
		if pick.FromContext(ctx).Unary() {
			t.Error("a stream is said to be a unary call")
		}
		return nil, nil
	}
	for _, hedging := range []time.Duration{-1, time.Hour} {
		failmode.UnaryClientInterceptor(failmode.Failover, failmode.WithHedging(hedging))(t.Context(), echov1.Echo_Get_FullMethodName, nil, new(echov1.GetResponse), nil, invoker)
	}
	failmode.StreamClientInterceptor(failmode.Failover)(t.Context(), &grpc.StreamDesc{}, nil, echov1.Echo_Stream_FullMethodName, streamer)
}

func TestWithRetryableCodes(t *testing.T) {
	also := failmode.WithRetryableCodes(codes.ResourceExhausted, codes.OK, codes.Canceled)
	for name, tt := range map[string]struct {
		o          outcome
		idempotent bool
		opts       []grpc.CallOption
		want       int
	}{
		"answered":                  {outcome{class: pick.Answered, code: codes.ResourceExhausted}, true, nil, 3},
		"not for this method":       {outcome{class: pick.Answered, code: codes.ResourceExhausted}, false, nil, 1},
		"another code":              {outcome{class: pick.Answered, code: codes.Aborted}, true, nil, 1},
		"for once":                  {outcome{class: pick.Answered, code: codes.Aborted}, true, []grpc.CallOption{failmode.WithRetryableCodes(codes.Aborted)}, 3},
		"not for once":              {outcome{class: pick.Answered, code: codes.ResourceExhausted}, true, []grpc.CallOption{failmode.WithRetryableCodes()}, 1},
		"Unavailable as ever":       {unavailable, true, nil, 3},
		"nor is a cancel":           {outcome{class: pick.Answered, code: codes.Canceled}, true, nil, 1},
		"success is none":           {outcome{class: pick.Answered}, true, nil, 1},
		"said by this client":       {outcome{class: pick.NotSent, code: codes.ResourceExhausted}, true, nil, 1},
		"said by whom nobody knows": {outcome{class: pick.Untracked, code: codes.ResourceExhausted}, true, nil, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{script: []outcome{tt.o}}
			call(t.Context(), f, failmode.UnaryClientInterceptor(failmode.Failover, also, failmode.Idempotent(tt.idempotent)), tt.opts...)
			if len(f.made) != tt.want {
				t.Errorf("%s: %d attempts, want %d", name, len(f.made), tt.want)
			}
		})
	}
}
