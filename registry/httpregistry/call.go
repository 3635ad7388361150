package httpregistry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/rollcall-go/rollcall/registry/internal/wire"
)

// newHTTPClient is client, or one of our own, that follows no redirect: the API
// has none, and one would take the request to who knows where. closeIdle closes
// what it keeps open, if it is ours.
func newHTTPClient(client *http.Client, timeout time.Duration) (own *http.Client, closeIdle func()) {
	if client == nil {
		transport := &http.Transport{
			Proxy:                  nil, // registry nodes are neighbours
			DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
			TLSHandshakeTimeout:    timeout,
			MaxIdleConnsPerHost:    4, // a few services looked up at once
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // the registry has none; what looks small must be small
		}
		client, closeIdle = &http.Client{Transport: transport}, transport.CloseIdleConnections
	} else {
		closeIdle = func() {}
	}
	copied := *client
	copied.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &copied, closeIdle
}

// reply is what a node said: any answer in the registry's own terms.
type reply struct {
	wire.Response
	date time.Time // the node's clock; zero if it did not say
}

// post sends one request to one node. Its error is why this was no answer of a
// registry, or a refusal.
func (c *Client) post(ctx context.Context, n *node, path string, body any) (reply, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return reply{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url+path, bytes.NewReader(text))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	// All requests may be repeated. This, which is never sent, tells the transport
	// so: it then tries again by itself when an idle connection proves dead.
	req.Header["Idempotency-Key"] = nil
	resp, err := c.http.Do(req)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return reply{}, &unsent{plain(err)}
	}
	if err != nil {
		return reply{}, plain(err)
	}
	defer resp.Body.Close()
	return c.read(resp)
}

func (c *Client) read(resp *http.Response) (reply, error) {
	kind := cmp.Or(resp.Header.Get("Content-Type"), "no content type")
	if resp.StatusCode != http.StatusOK {
		if to := resp.Header.Get("Location"); to != "" {
			return reply{}, odd("HTTP status %s to %q, which is not followed", resp.Status, to)
		}
		return reply{}, odd("HTTP status %s (%s)", resp.Status, kind)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, c.maxResponse+1))
	switch {
	case int64(len(text)) > c.maxResponse:
		return reply{}, odd("the answer is larger than %d bytes", c.maxResponse)
	case err != nil:
		return reply{}, odd("the answer breaks off: %v", plain(err))
	}
	var r reply
	if err := json.Unmarshal(text, &r.Response); err != nil || r.Code == 0 {
		return reply{}, odd("the answer is not a registry's: %q (%s)", start(text), kind)
	}
	r.date, _ = http.ParseTime(resp.Header.Get("Date"))
	switch r.Code {
	case wire.CodeOK, wire.CodeNotFound, wire.CodeNotModified:
		return r, nil
	}
	message := "no message"
	if r.Message != nil {
		message = string(start([]byte(*r.Message)))
	}
	return r, &refusal{r.Code, fmt.Sprintf("refused with code %d (%s)", r.Code, message)}
}

// fetch asks one node for the instances of a service.
func (c *Client) fetch(ctx context.Context, n *node, service string) (answer, error) {
	r, err := c.post(ctx, n, wire.PathFetch, wire.FetchRequest{Env: c.env, AppID: service, Status: wire.StatusMaskAll})
	if err != nil {
		return answer{}, err
	}
	var entries []wire.Instance
	var strange []string
	switch r.Code {
	case wire.CodeOK:
		entries, strange, err = instancesOf(r.Data)
	case wire.CodeNotModified:
		entries, err = c.fetchAll(ctx, n, service)
	default:
		return answer{node: n.host, date: r.date, why: fmt.Sprintf("%s: code %d", n.host, r.Code)}, nil
	}
	if err != nil {
		return answer{}, err
	}
	a := newAnswer(n.host, c.env, service, entries, strange)
	a.date = r.date
	return a, nil
}

// fetchAll is the way round a node whose counter of the service has overflowed:
// it has the set, answers fetch with 304 and still tells it here.
func (c *Client) fetchAll(ctx context.Context, n *node, service string) ([]wire.Instance, error) {
	r, err := c.post(ctx, n, wire.PathFetchAll, struct{}{})
	if err == nil && r.Code != wire.CodeOK {
		err = fmt.Errorf("code %d", r.Code)
	}
	var services map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(r.Data, &services)
	}
	if err != nil {
		return nil, &refusal{r.Code, fmt.Sprintf("code %d to fetch, and to fetchall: %v", wire.CodeNotModified, err)}
	}
	var found []wire.Instance
	for _, list := range services {
		entries, _, err := decodeEntries(list)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			if entry.AppID == service && entry.Env == c.env {
				found = append(found, entry)
			}
		}
	}
	return found, nil
}

// instancesOf decodes the data of a successful fetch or nodes.
func instancesOf(data json.RawMessage) (entries []wire.Instance, strange []string, err error) {
	var set struct {
		Instances json.RawMessage `json:"instances"`
	}
	if len(data) == 0 {
		return nil, nil, nil
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, nil, odd("the answer is not a registry's: %q", start(data))
	}
	return decodeEntries(set.Instances)
}

// decodeEntries decodes a list of instances. What is not one is no reason to lose
// the others: strange says why each of them was left out.
func decodeEntries(list json.RawMessage) (entries []wire.Instance, strange []string, err error) {
	if len(list) == 0 || json.Unmarshal(list, &entries) == nil {
		return entries, nil, nil
	}
	var each []json.RawMessage
	if err := json.Unmarshal(list, &each); err != nil {
		return nil, nil, odd("the answer is not a registry's: %q", start(list))
	}
	entries = entries[:0]
	for _, text := range each {
		var entry wire.Instance
		if err := json.Unmarshal(text, &entry); err != nil {
			strange = append(strange, fmt.Sprintf("%q: %v", start(text), err))
			continue
		}
		entries = append(entries, entry)
	}
	return entries, strange, nil
}
