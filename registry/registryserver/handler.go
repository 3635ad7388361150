package registryserver

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// The statuses an instance can be registered with.
const (
	statusUp   = 1
	statusDown = 2 // registered, but not to receive calls
)

// The answers, by endpoint and outcome. Which keys there are is part of the API.
const (
	registerOK = `{"code":200,"data":"","message":""}`
	renewOK    = `{"code":200}`
	cancelOK   = `{"code":200,"message":""}`
	badRequest = `{"code":400,"message":"code: 400, error info: request param error"}`
	unknown    = `{"code":404,"message":"code: 404, error info: not found"}`
	fetchNone  = `{"code":404,"data":"","message":"code: 404, error info: not found"}`
	dataHead   = `{"code":200,"data":`
	dataTail   = `,"message":""}`
)

// maxPooled is the size up to which answer buffers are kept for reuse: enough
// for some 10,000 instances, so that a huger answer does not stay in memory.
const maxPooled = 4 << 20

// endpoint reads the body of a request and appends the answer to dst.
type endpoint func(dst []byte, body io.Reader) []byte

// endpoint returns who serves the path, or nil. Paths are compared as they are;
// a ServeMux would redirect what only looks similar.
func (s *Server) endpoint(path string) endpoint {
	switch path {
	case wire.PathRegister:
		return s.register
	case wire.PathRenew:
		return s.renew
	case wire.PathCancel:
		return s.cancelInstance
	case wire.PathFetch:
		return s.fetch
	case wire.PathFetchAll:
		return s.fetchAll
	case wire.PathNodes:
		return s.nodes
	}
	return nil
}

// ServeHTTP serves the service_discovery HTTP API: six POST endpoints whose
// results are in the body, under HTTP status 200. Everything else is 404.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		if serve := s.endpoint(r.URL.Path); serve != nil {
			s.answer(w, r, serve)
			return
		}
		if path, cut := strings.CutSuffix(r.URL.Path, "/"); cut && s.endpoint(path) != nil {
			w.Header().Set("Location", path)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, "404 page not found")
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, serve endpoint) {
	buf := s.buffers.Get().(*[]byte)
	body := serve((*buf)[:0], http.MaxBytesReader(w, r.Body, s.cfg.maxBody))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that has gone cannot be told
	if cap(body) <= maxPooled {
		*buf = body
		s.buffers.Put(buf)
	}
}

func (s *Server) register(dst []byte, body io.Reader) []byte {
	var req struct {
		wire.RegisterRequest
		peerFields
		DirtyTimestamp  int64 `json:"dirtytimestamp"`
		LatestTimestamp int64 `json:"latesttimestamp"`
	}
	if !decode(body, &req) || (req.Status != statusUp && req.Status != statusDown) || reserved(req.Identity) {
		return append(dst, badRequest...)
	}
	became := s.store.register(registration{
		RegisterRequest: req.RegisterRequest,
		dirty:           req.DirtyTimestamp,
		latest:          req.LatestTimestamp,
	}, time.Now())
	if became == added {
		s.log("registered", req.Identity)
	}
	return append(dst, registerOK...)
}

func (s *Server) renew(dst []byte, body io.Reader) []byte {
	var req struct {
		wire.Identity
		peerFields
		DirtyTimestamp int64 `json:"dirtytimestamp"` // without effect, but of no other type
	}
	switch {
	case !decode(body, &req) || reserved(req.Identity):
		return append(dst, badRequest...)
	case !s.store.renew(req.Identity, time.Now()):
		return append(dst, unknown...)
	}
	return append(dst, renewOK...)
}

func (s *Server) cancelInstance(dst []byte, body io.Reader) []byte {
	var req struct {
		wire.Identity
		peerFields
		LatestTimestamp int64 `json:"latesttimestamp"`
	}
	switch {
	case !decode(body, &req) || reserved(req.Identity):
		return append(dst, badRequest...)
	case !s.store.cancel(req.Identity, req.LatestTimestamp, time.Now()):
		return append(dst, unknown...)
	}
	s.log("cancelled", req.Identity)
	return append(dst, cancelOK...)
}

func (s *Server) fetch(dst []byte, body io.Reader) []byte {
	var req wire.FetchRequest
	if !decode(body, &req) {
		return append(dst, badRequest...)
	}
	return s.appendInstances(dst, key{appID: req.AppID, env: req.Env}, req.Status)
}

func (s *Server) nodes(dst []byte, body io.Reader) []byte {
	var req wire.NodesRequest
	if !decode(body, &req) {
		return append(dst, badRequest...)
	}
	return s.appendInstances(dst, key{appID: wire.NodeService, env: req.Env}, statusUp)
}

func (s *Server) appendInstances(dst []byte, k key, mask uint32) []byte {
	body, found := s.store.appendFetch(append(dst, dataHead...), k, mask)
	if !found {
		return append(dst, fetchNone...)
	}
	return append(body, dataTail...)
}

func (s *Server) fetchAll(dst []byte, _ io.Reader) []byte {
	return append(s.store.appendAll(append(dst, dataHead...)), dataTail...)
}

// peerFields are what the servers of a cluster add to the requests they forward.
type peerFields struct {
	Replication bool `json:"replication"` // do not forward: this node never does
}

// decode reads the first JSON value of the body; what follows is ignored.
func decode(body io.Reader, req any) bool { return json.NewDecoder(body).Decode(req) == nil }

// reserved says that only the node itself may change the instance: a stranger
// among the nodes would be sent every client.
func reserved(id wire.Identity) bool { return id.AppID == wire.NodeService }

func (s *Server) log(change string, id wire.Identity) {
	s.cfg.logger.LogAttrs(s.ctx, slog.LevelInfo, change, identity(id)...)
}
