package registrar

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A signal to the process and at once to its group is one signal.
func TestEchoedSignalIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals, ended := make(chan os.Signal, 4), make(chan struct{})
		go func() {
			for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGINT} {
				signals <- s
			}
			synctest.Wait()
			time.Sleep(echo)
			signals <- syscall.SIGINT
			synctest.Wait()
			close(ended)
		}()
		got := slices.Collect(inTurn(signals, ended))
		if want := []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGINT}; !slices.Equal(got, want) {
			t.Errorf("signals %v, want %v", got, want)
		}
	})
}
