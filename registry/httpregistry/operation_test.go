package httpregistry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// Whose time is over before another attempt can be made is told why the last one failed.
func TestInsistSaysWhyItFailed(t *testing.T) {
	over := context.DeadlineExceeded
	slow := fmt.Errorf("no answer: %w", over)
	why := func(text string) error { return errors.New(text) }
	for name, tt := range map[string]struct {
		attempts []error // one that is nil waits for its turn until ctx has ended
		cause    error
		want     string
	}{
		"no attempt":                    {[]error{nil}, over, "context deadline exceeded"},
		"one attempt before":            {[]error{why("x"), nil}, over, "context deadline exceeded: x"},
		"the last attempt before":       {[]error{why("x"), why("y"), nil}, over, "context deadline exceeded: y"},
		"the last attempt has its time": {[]error{why("x"), slow}, over, "no answer: context deadline exceeded"},
		"not comparable, no attempt":    {[]error{nil}, causes{why("over")}, "[over]: [over]"},
		"not comparable":                {[]error{why("x"), nil}, causes{why("over")}, "[over]: x"},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			n.registry(three[0])
			ctx, cancel := context.WithCancelCause(t.Context())
			attempts := 0
			err := n.client(three[:1]).insist(ctx, func(ctx context.Context) error {
				attempts++
				err := tt.attempts[attempts-1]
				if attempts == len(tt.attempts) {
					cancel(tt.cause)
				}
				return cmp.Or(err, context.Cause(ctx))
			})
			if attempts != len(tt.attempts) || err.Error() != tt.want {
				t.Errorf("%s: after %d attempts %v, want %v", name, attempts, err, tt.want)
			}
			if _, comparable := tt.cause.(causes); !comparable && !errors.Is(err, tt.cause) {
				t.Errorf("%s: %v is not %v", name, err, tt.cause)
			}
		})
	}
}

// causes is an error that cannot be compared with another one.
type causes []error

func (c causes) Error() string { return fmt.Sprint([]error(c)) }

// Whatever happens to one instance, two operations on it are 100 ms apart.
func TestOperationsAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		c := n.client(three[:1])
		r := mustRegister(t, c, instance("s", 1))
		for i := range 20 {
			go func() {
				inst := instance("s", 1)
				inst.Weight = uint32(i + 2)
				r.Update(t.Context(), inst)
			}()
		}
		pass(3 * time.Second)
		r.Deregister(t.Context())
		mustRegister(t, c, instance("s", 1))
		var last time.Time
		for _, req := range node.requests {
			if strings.HasSuffix(req.path, wire.PathFetch) || strings.HasSuffix(req.path, wire.PathNodes) {
				continue
			}
			if gap := req.at.Sub(last); gap < spacing {
				t.Errorf("%s came %v after the one before", req.path, gap)
			}
			last = req.at
		}
	})
}

// A beat that is under way when Deregister begins is over before the cancel is sent,
// and nothing comes after that.
func TestBeatAndDeregisterNeverCross(t *testing.T) {
	for _, path := range []string{wire.PathRenew, wire.PathRegister} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				node := n.registry(three[0])
				c := n.client(three[:1])
				r := mustRegister(t, c, instance("s", 1))
				pass(10 * time.Second)
				if path == wire.PathRegister {
					node.drop("s", "i1") // so that the next beat registers
				}
				var ended time.Time
				node.answer(path, func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(time.Second) // a slow node
					node.Server.ServeHTTP(w, r)
					ended = time.Now()
				})
				for len(node.asked(path, time.Now().Add(-time.Second))) == 0 {
					pass(100 * time.Millisecond)
				}
				if err := r.Deregister(t.Context()); err != nil {
					t.Error(err)
				}
				cancels := node.asked(wire.PathCancel, time.Time{})
				if len(cancels) != 1 {
					t.Fatalf("%d cancels", len(cancels))
				}
				if path == wire.PathRegister && cancels[0].at.Before(ended) {
					t.Errorf("cancelled %v before the register had ended", ended.Sub(cancels[0].at))
				}
				pass(10 * time.Minute)
				if last := node.requests[len(node.requests)-1]; strings.HasSuffix(last.path, wire.PathRegister) || strings.HasSuffix(last.path, wire.PathRenew) {
					t.Errorf("%s came after the cancel", last.path)
				}
				if _, err := n.client(three[:1]).Fetch(t.Context(), "s"); !errors.Is(err, registry.ErrUnknownService) {
					t.Errorf("it is still there: %v", err)
				}
			})
		})
	}
}
