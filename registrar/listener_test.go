package registrar_test

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/internal/testenv"
)

func TestListenerEnds(t *testing.T) {
	tests := map[string]struct {
		end  func(r *rig)
		want error
	}{
		"listener closed":      {func(r *rig) { r.lis.Close() }, net.ErrClosed},
		"GracefulStop from us": {func(r *rig) { r.server.GracefulStop() }, nil},
		"Stop from us":         {func(r *rig) { r.server.Stop() }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t).serve()
				time.Sleep(time.Second)
				go test.end(r)
				r.wantResult(test.want)
				// Out of the registry at once, and no drain delay.
				if _, holds := r.reg.count(); holds != 0 || time.Since(r.journal.began) != time.Second {
					t.Errorf("%d registrations left after %v", holds, time.Since(r.journal.began))
				}
			})
		})
	}
}

func TestGracefulStopByTheProgramFinishesCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t).serve()
		r.echo.OnCall(testenv.Delay(3 * time.Second))
		call := get(t.Context(), r.dial(nil))
		synctest.Wait()
		go r.server.GracefulStop()
		synctest.Wait()
		if _, holds := r.reg.count(); holds != 0 {
			t.Error("it does not listen any more and is still registered")
		}
		if a := <-call; a.err != nil {
			t.Errorf("the call in hand: %v", a.err)
		}
		r.wantResult(nil)
	})
}

func TestServerThatWasStoppedBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.server.Stop()
		r.serve().wantResult(grpc.ErrServerStopped)
		if asked, _ := r.reg.count(); asked != 0 {
			t.Error("it was registered")
		}
	})
}
