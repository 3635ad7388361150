package failmode_test

import (
	"flag"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/rollcall-go/rollcall/internal/testenv"
	"github.com/rollcall-go/rollcall/registry"
)

var soak = flag.Bool("soak", false, "run the long forms of the tests")

// amount is how much a test does: in its short form or its long one.
func amount(short, long int) int {
	if *soak {
		return long
	}
	return short
}

// instances returns instances with these IDs and a Life each.
func instances(ids ...string) (list []registry.Instance) {
	for _, id := range ids {
		list = append(list, registry.Instance{ID: id, Life: id + "-life"})
	}
	return list
}

func mdOf(kv ...string) metadata.MD { return metadata.Pairs(kv...) }

// delivered is what gRPC tells a caller about the attempt.
type delivered struct {
	header, trailer metadata.MD
	peer            peer.Peer
}

func (d *delivered) options() []grpc.CallOption {
	return []grpc.CallOption{grpc.Header(&d.header), grpc.Trailer(&d.trailer), grpc.Peer(&d.peer)}
}

// servedBy is what by says when all is of s.
func servedBy(s *testenv.Server) string {
	id := s.Instance().ID
	return fmt.Sprint(id, " ", id, " ", s.Addr)
}

// by names who sent the header, the trailer, and what the address was.
func (d *delivered) by() string {
	by := append(d.header["served-by"], d.trailer["served-by"]...)
	if d.peer.Addr != nil {
		by = append(by, d.peer.Addr.String())
	}
	return strings.Join(by, " ")
}
