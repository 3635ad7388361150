package drain_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rollcall-go/rollcall/drain"
)

var (
	none        = drain.Marks{}
	closing     = drain.Marks{Closing: true}
	notExecuted = drain.Marks{Closing: true, NotExecuted: true}
)

func TestMarksHoldForThePickedProcessOnly(t *testing.T) {
	const id, life = "a", "f00d"
	for _, test := range []struct {
		name     string
		trailer  metadata.MD
		id, life string
		want     drain.Marks
	}{
		{"closing", drain.Closing(id, life), id, life, closing},
		{"answered while closing", drain.Answered(id, life), id, life, closing},
		{"not executed", drain.NotExecuted(id, life), id, life, notExecuted},
		{"another ID", drain.NotExecuted("b", life), id, life, none},
		{"another life", drain.NotExecuted(id, "beef"), id, life, none},
		{"ID and life exchanged", drain.NotExecuted(life, id), id, life, none},
		{"no life known", drain.NotExecuted(id, life), id, "", none},
		{"no life anywhere", drain.NotExecuted(id, ""), id, "", none},
		{"no trailer", nil, id, life, none},
		{"other trailers", metadata.Pairs("x", "id=a&life=f00d"), id, life, none},

		// A handler hands on the trailers of a refusal of its downstream, b.
		{"relayed by a server that does not close", drain.NotExecuted("b", life), id, life, none},
		{"relayed by a server that closes", metadata.Join(drain.NotExecuted("b", life), drain.Answered(id, life)), id, life, closing},
		{"relayed, in the other order", metadata.Join(drain.Answered(id, life), drain.NotExecuted("b", life)), id, life, closing},
		// Its downstream was itself, and refused.
		{"relayed to itself", metadata.Join(drain.NotExecuted(id, life), drain.Answered(id, life)), id, life, closing},
		{"said twice", metadata.Join(drain.NotExecuted(id, life), drain.NotExecuted(id, life)), id, life, closing},
		// A chain: the refusal of c came through b.
		{"relayed twice", metadata.Join(drain.NotExecuted("c", life), drain.Answered("b", life)), id, life, none},

		{"garbage", metadata.Pairs(drain.NotExecutedKey, "%zz;;", drain.ClosingKey, "\x00"), id, life, none},
		{"empty values", metadata.Pairs(drain.NotExecutedKey, "", drain.ClosingKey, ""), id, life, none},
		{"a part of the life", metadata.Pairs(drain.NotExecutedKey, "id=a&life=f00"), id, life, none},
		{"two IDs in one value", metadata.Pairs(drain.NotExecutedKey, "id=b&id=a&life=f00d"), id, life, none},
		{"more in the value than today", metadata.Pairs(drain.NotExecutedKey, "id=a&life=f00d&since=1"), id, life, drain.Marks{NotExecuted: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := drain.Read(test.trailer, test.id, test.life); got != test.want {
				t.Errorf("Read(%v) = %+v, want %+v", test.trailer, got, test.want)
			}
		})
	}
}

func TestMarksSurviveOddNames(t *testing.T) {
	for _, name := range []string{"a&life=b", "a=b;c", "a b+c", "é%20", "\xff\x00", "10.0.0.1:9000"} {
		if got := drain.Read(drain.NotExecuted(name, name), name, name); got != notExecuted {
			t.Errorf("for %q: %+v", name, got)
		}
		if values := drain.Closing(name, name)[drain.ClosingKey]; len(values) != 1 || !printable(values[0]) {
			t.Errorf("for %q the trailer is %q: HTTP/2 takes printable ASCII only", name, values)
		}
	}
}

func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r > '~' {
			return false
		}
	}
	return true
}

// FuzzRead gives it whatever a peer may send.
func FuzzRead(f *testing.F) {
	f.Add("id=a&life=f00d", "", "a", "f00d")
	f.Add("id=a&life=f00d", "id=b&life=1", "a", "f00d")
	f.Add("%zz", ";;;", "", "")
	f.Add("no", "id=&life=", "", "x")
	f.Fuzz(func(t *testing.T, first, second, id, life string) {
		one := drain.Read(metadata.MD{drain.NotExecutedKey: {first}, drain.ClosingKey: {first}}, id, life)
		if one.NotExecuted != one.Closing {
			t.Errorf("one value says two things: %+v", one)
		}
		if one.NotExecuted && (life == "" || drain.Read(metadata.MD{drain.NotExecutedKey: {first}}, id, life+"x").NotExecuted ||
			drain.Read(metadata.MD{drain.NotExecutedKey: {first}}, id+"x", life).NotExecuted) {
			t.Errorf("%q proves something of another process than %q, life %q", first, id, life)
		}
		two := drain.Read(metadata.MD{drain.NotExecutedKey: {first, second}}, id, life)
		if two != none {
			t.Errorf("two values prove %+v", two)
		}
		if own := drain.Read(drain.NotExecuted(id, life), id, life); life != "" && own != notExecuted {
			t.Errorf("its own mark is read as %+v", own)
		}
	})
}

func TestRefusal(t *testing.T) {
	err := drain.Refusal("greeter", "a", "f00d")
	st := status.Convert(err)
	if st.Code() != codes.Unavailable || st.Message() != "a is closing and has not executed this call" {
		t.Errorf("the status is %v", st)
	}
	if len(st.Details()) != 1 {
		t.Fatalf("the details are %v, want one ErrorInfo", st.Details())
	}
	info, ok := st.Details()[0].(*errdetails.ErrorInfo)
	if !ok || info.GetReason() != "SERVER_CLOSING" || info.GetDomain() != "rollcall" {
		t.Errorf("the detail is %v", st.Details()[0])
	}
	for key, want := range map[string]string{"service": "greeter", "id": "a", "life": "f00d"} {
		if got := info.GetMetadata()[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

func TestIsRefusal(t *testing.T) {
	refusal := drain.Refusal("greeter", "a", "f00d")
	other, err := status.New(codes.Unavailable, "busy").WithDetails(&errdetails.ErrorInfo{Reason: drain.Reason, Domain: "elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{"a refusal", refusal, true},
		{"a wrapped one", fmt.Errorf("call: %w", refusal), true},
		{"one of several errors", errors.Join(errors.New("first"), refusal), true},
		{"one that came over the wire", status.FromProto(status.Convert(refusal).Proto()).Err(), true},
		{"nothing", nil, false},
		{"another status", status.Error(codes.Unavailable, "a is closing and has not executed this call"), false},
		{"another domain", other.Err(), false},
		{"no status", context.Canceled, false},
	} {
		if got := drain.IsRefusal(test.err); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// A server that is closing refuses a call and says so twice: in the status, for
// people, and in the trailer, which proves it.
func Example() {
	err := drain.Refusal("greeter", "greeter-1", "f00d")
	trailer := drain.NotExecuted("greeter-1", "f00d")

	// The caller knows which process it picked for this attempt.
	fmt.Println(err)
	fmt.Println("not executed:", drain.Read(trailer, "greeter-1", "f00d").NotExecuted)
	fmt.Println("said of another process:", drain.Read(trailer, "greeter-1", "beef").NotExecuted)
	// Output:
	// rpc error: code = Unavailable desc = greeter-1 is closing and has not executed this call
	// not executed: true
	// said of another process: false
}
