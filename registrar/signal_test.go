//go:build unix

package registrar_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/internal/proc"
	"github.com/rollcall-go/rollcall/internal/testenv"
	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
	"github.com/rollcall-go/rollcall/registrar"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/memory"
)

// serveArg makes the test binary the server that TestSignals starts.
const serveArg = "serve-for-signals"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serveArg {
		if err := serveForSignals(); err != nil {
			fmt.Println("ended with", err)
			os.Exit(3)
		}
		fmt.Println("ended well")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveForSignals is the main of a program that leaves its signals to Run.
func serveForSignals() error {
	if os.Getenv(ignoreEnv) != "" {
		signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r := registrar.New(hung{memory.New()}, registry.Instance{Service: service},
		registrar.WithLogger(slog.New(slog.NewTextHandler(os.Stdout, nil))),
		registrar.WithDrainDelay(0),
		registrar.WithGraceTimeout(time.Hour),
	)
	srv := grpc.NewServer(r.ServerOptions()...)
	echo := testenv.NewEcho(r.Instance().ID)
	echo.OnCall(func(ctx context.Context, method string) error {
		fmt.Println("in hand")
		if method == echov1.Echo_Put_FullMethodName {
			select {} // never ends
		}
		<-registrar.Draining(ctx)
		return nil
	})
	echov1.RegisterEchoServer(srv, echo)
	fmt.Println("address", lis.Addr())
	return registrar.Run(context.Background(), r, srv, lis)
}

// hangEnv is the environment variable that makes Deregister hang.
const hangEnv = "TEST_HANG_DEREGISTER"

// ignoreEnv is the environment variable that makes the server ignore all signals
// that Run would take.
const ignoreEnv = "TEST_IGNORE_SIGNALS"

// hung is a registry that breaks its contract if hangEnv is set: Deregister does
// not return.
type hung struct{ *memory.Registry }

func (h hung) Register(ctx context.Context, inst registry.Instance) (registry.Registration, error) {
	registration, err := h.Registry.Register(ctx, inst)
	if err == nil && os.Getenv(hangEnv) != "" {
		registration = hungRegistration{registration}
	}
	return registration, err
}

type hungRegistration struct{ registry.Registration }

func (hungRegistration) Deregister(context.Context) error {
	fmt.Println("deregistering")
	select {}
}

// child starts the server by the command, to which its arguments are added, and
// waits until it is registered.
func child(t *testing.T, command ...string) (*proc.Process, echov1.EchoClient) {
	t.Helper()
	command = append(command, os.Args[0], serveArg)
	p, err := proc.Start(t.Context(), "server", nil, command[0], command[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	line, err := p.WaitLine(t.Context(), "address ")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(line, "address "),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	say(t, p, "state=registered")
	return p, echov1.NewEchoClient(conn)
}

// say waits until the process says it.
func say(t *testing.T, p *proc.Process, text string) {
	t.Helper()
	if _, err := p.WaitLine(t.Context(), text); err != nil {
		t.Fatal(err)
	}
}

func wantExit(t *testing.T, p *proc.Process, want int) {
	t.Helper()
	if code, err := p.Wait(t.Context()); err != nil || code != want {
		t.Errorf("exit code %d, %v, want %d; it said:\n%s", code, err, want, p.Output())
	}
}

func TestFirstSignalShutsDown(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			p, client := child(t)
			call := get(t.Context(), client)
			say(t, p, "in hand")
			p.Signal(sig)
			if a := <-call; a.err != nil {
				t.Errorf("the call in hand: %v", a.err)
			}
			wantExit(t, p, 0)
			if !strings.Contains(p.Output(), `why="signal: `+sig.String()) {
				t.Errorf("it does not say why:\n%s", p.Output())
			}
		})
	}
}

func TestSecondSignalStops(t *testing.T) {
	p, client := child(t)
	failed := make(chan error, 1)
	go func() {
		_, err := client.Put(t.Context(), &echov1.PutRequest{})
		failed <- err
	}()
	say(t, p, "in hand")
	p.Signal(syscall.SIGTERM)
	say(t, p, "state=closing")
	p.Signal(syscall.SIGINT)
	wantExit(t, p, 3)
	if err := <-failed; err == nil {
		t.Error("a call that never ends was answered")
	}
	say(t, p, registrar.ErrForced.Error()+": 1 of them")
}

// Whatever hangs, a terminal and a supervisor get rid of the process.
func TestThirdSignalEndsTheProcess(t *testing.T) {
	t.Setenv(hangEnv, "1")
	p, _ := child(t)
	p.Signal(syscall.SIGTERM)
	say(t, p, "deregistering")
	p.Signal(syscall.SIGINT)
	say(t, p, "signal="+syscall.SIGINT.String())
	for again := time.Tick(20 * time.Millisecond); ; <-again { // past what counts as an echo
		p.Signal(syscall.SIGTERM)
		select {
		case <-p.Done():
			wantExit(t, p, -1)
			return
		default:
		}
	}
}

// nohup starts programs in such a way.
func TestIgnoredSignalStaysIgnored(t *testing.T) {
	p, _ := child(t, "/bin/sh", "-c", `trap "" HUP; exec "$0" "$@"`)
	p.Signal(syscall.SIGHUP)
	p.Signal(syscall.SIGTERM)
	wantExit(t, p, 0)
	if strings.Contains(p.Output(), syscall.SIGHUP.String()) {
		t.Errorf("it took the signal:\n%s", p.Output())
	}
}

func TestAllSignalsIgnored(t *testing.T) {
	p, client := child(t, "env", ignoreEnv+"=1")
	p.Signal(syscall.SIGUSR1) // means nothing, as ever
	p.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithCancel(t.Context())
	call := get(ctx, client)
	say(t, p, "in hand")
	cancel()
	<-call
	p.Kill()
	if strings.Contains(p.Output(), "registrar: signal") {
		t.Errorf("it took a signal:\n%s", p.Output())
	}
}
