package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	echov1 "github.com/rollcall-go/rollcall/proto/echo/v1"
)

// echo is the service: it says who it is, and answers late or with an error
// when the flags say so.
type echo struct {
	echov1.UnimplementedEchoServer
	id      string
	latency time.Duration
	fail    failure
	stats   *stats

	mu     sync.Mutex // guards all below; nothing is called under it
	values map[string]string
	totals map[string]int64
}

func newEcho(id string, latency time.Duration, fail failure, stats *stats) *echo {
	return &echo{id: id, latency: latency, fail: fail, stats: stats, values: map[string]string{}, totals: map[string]int64{}}
}

// work is what every call begins with: it is counted as executed, takes its
// time, and fails if it is to.
func (e *echo) work(ctx context.Context, method string) error {
	e.stats.executed(method)
	if err := wait(ctx, e.latency); err != nil {
		return err
	}
	return e.fail.roll(ctx)
}

func (e *echo) Get(ctx context.Context, req *echov1.GetRequest) (*echov1.GetResponse, error) {
	if err := e.work(ctx, "get"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return &echov1.GetResponse{InstanceId: e.id, Value: e.values[req.GetKey()]}, nil
}

func (e *echo) Put(ctx context.Context, req *echov1.PutRequest) (*echov1.PutResponse, error) {
	if err := e.work(ctx, "put"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.values[req.GetKey()] = req.GetValue()
	return &echov1.PutResponse{InstanceId: e.id}, nil
}

func (e *echo) Add(ctx context.Context, req *echov1.AddRequest) (*echov1.AddResponse, error) {
	if err := e.work(ctx, "add"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.totals[req.GetKey()] += req.GetAmount()
	return &echov1.AddResponse{InstanceId: e.id, Total: e.totals[req.GetKey()]}, nil
}

func (e *echo) Stream(req *echov1.StreamRequest, stream grpc.ServerStreamingServer[echov1.StreamResponse]) error {
	if err := e.work(stream.Context(), "stream"); err != nil {
		return err
	}
	for i := range max(req.GetCount(), 1) {
		if i > 0 {
			if err := wait(stream.Context(), time.Duration(req.GetIntervalMs())*time.Millisecond); err != nil {
				return err
			}
		}
		if err := stream.Send(&echov1.StreamResponse{InstanceId: e.id, Message: req.GetMessage(), Index: i}); err != nil {
			return err
		}
	}
	return nil
}

func (e *echo) Collect(stream grpc.ClientStreamingServer[echov1.CollectRequest, echov1.CollectResponse]) error {
	if err := e.work(stream.Context(), "collect"); err != nil {
		return err
	}
	for count := uint32(0); ; count++ {
		switch _, err := stream.Recv(); {
		case errors.Is(err, io.EOF):
			return stream.SendAndClose(&echov1.CollectResponse{InstanceId: e.id, Count: count})
		case err != nil:
			return err
		}
	}
}

func (e *echo) Chat(stream grpc.BidiStreamingServer[echov1.ChatRequest, echov1.ChatResponse]) error {
	if err := e.work(stream.Context(), "chat"); err != nil {
		return err
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&echov1.ChatResponse{InstanceId: e.id, Message: req.GetMessage()}); err != nil {
			return err
		}
	}
}

// wait waits for d, or until the call is over.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
