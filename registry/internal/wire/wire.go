// Package wire holds the JSON messages of the service_discovery HTTP API, which
// client and server share. Everything is a POST; every application result is
// HTTP 200 with the real result in the body's code.
package wire

import "encoding/json"

// The paths of the API.
const (
	PathRegister = "/api/register"
	PathRenew    = "/api/renew"
	PathCancel   = "/api/cancel"
	PathFetch    = "/api/fetch"
	PathFetchAll = "/api/fetchall"
	PathNodes    = "/api/nodes"
)

// The values of Response.Code.
const (
	CodeOK          = 200
	CodeNotModified = 304 // a counter that overflowed: the set is there but not told
	CodeBadRequest  = 400
	CodeNotFound    = 404
)

// StatusMaskAll asks fetch for instances of every status; it is a bit mask of
// the status values 1 (up) and 2 (registered, not receiving).
const StatusMaskAll = 3

// NodeService is the appid under which the registry's own nodes are registered.
const NodeService = "Kavin.discovery"

// Identity names an instance in every request that concerns one.
type Identity struct {
	Env      string `json:"env"`
	AppID    string `json:"appid"`
	Hostname string `json:"hostname"`
}

// RegisterRequest is the body of register. It replaces the instance as a whole.
type RegisterRequest struct {
	Identity
	Addrs   []string `json:"addrs"`
	Version string   `json:"version"`
	Status  uint32   `json:"status"`
}

// FetchRequest is the body of fetch; Status is a bit mask.
type FetchRequest struct {
	Env    string `json:"env"`
	AppID  string `json:"appid"`
	Status uint32 `json:"status"`
}

// NodesRequest is the body of nodes. Env is the registry's own.
type NodesRequest struct {
	Env string `json:"env"`
}

// Instance is an instance as the registry emits it. Times are nanoseconds since
// 1970 by the clock of the node that answers; Addrs may be null.
type Instance struct {
	Env             string   `json:"env"`
	AppID           string   `json:"appid"`
	Hostname        string   `json:"hostname"`
	Addrs           []string `json:"addrs"`
	Version         string   `json:"version"`
	Status          uint32   `json:"status"`
	RegTimestamp    int64    `json:"reg_timestamp"`
	UpTimestamp     int64    `json:"up_timestamp"`
	RenewTimestamp  int64    `json:"renew_timestamp"`
	DirtyTimestamp  int64    `json:"dirty_timestamp"`
	LatestTimestamp int64    `json:"latest_timestamp"`
}

// FetchData is the data of a successful fetch or nodes.
type FetchData struct {
	Instances       []Instance `json:"instances"`
	LatestTimestamp int64      `json:"latest_timestamp"`
}

// Response is the envelope of every answer. Which of Data and Message exist
// depends on the endpoint and on Code, and so does the shape of Data (object,
// map or empty string): look at Code before decoding it.
type Response struct {
	Code    int             `json:"code"`
	Data    json.RawMessage `json:"data,omitempty"`
	Message *string         `json:"message,omitempty"`
}
