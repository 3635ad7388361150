package httpregistry

import (
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

func TestSeeds(t *testing.T) {
	tests := []struct {
		seeds string
		want  string // URLs, or part of the error after "!"
	}{
		{"10.0.0.1:6666", "http://10.0.0.1:6666"},
		{"registry:6666 http://registry:6666 http://other:1/", "http://registry:6666 http://other:1"},
		{"https://registry.example.com https://a:8443", "https://registry.example.com:443 https://a:8443"},
		{"http://registry", "http://registry:80"},
		{"[::1]:6666", "http://[::1]:6666"},
		{"", "!no registry address: give at least one host:port"},
		{"10.0.0.1", `!registry address "10.0.0.1": `},
		{"10.0.0.1:6666 :6666", `!registry address ":6666": `},
		{"10.0.0.1:0", "!a port from 1 to 65535"},
		{"10.0.0.1:99999", "!a port from 1 to 65535"},
		{"ftp://10.0.0.1:6666", `!scheme "ftp" is neither http nor https`},
		{"http://10.0.0.1:6666/api", "!there is more than host and port"},
		{"http://u:p@10.0.0.1:6666", "!there is more than host and port"},
		{"http://10.0.0.1:6666?x=1", "!there is more than host and port"},
		{"http://10.0.0.1:http", `!invalid port ":http"`},
		{"http:///", "!is not host:port"},
		{"10.0.0.1:6666,10.0.0.2:6666", "!registry address"},
	}
	for _, tt := range tests {
		c, err := New(strings.Fields(tt.seeds))
		if text, ok := strings.CutPrefix(tt.want, "!"); ok {
			if err == nil || !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), text) {
				t.Errorf("New(%q) = %v, want %q", tt.seeds, err, text)
			}
			continue
		}
		if err != nil {
			t.Errorf("New(%q) = %v", tt.seeds, err)
			continue
		}
		var urls []string
		for _, n := range c.nodes.list {
			urls = append(urls, n.url)
		}
		if got := strings.Join(urls, " "); got != tt.want {
			t.Errorf("New(%q) uses %q, want %q", tt.seeds, got, tt.want)
		}
		c.Close()
	}
}

func TestListedNodes(t *testing.T) {
	tests := []struct{ seed, addr, want string }{
		{"10.0.0.1:6666", "http://10.0.0.2:6666", "http://10.0.0.2:6666"},
		{"10.0.0.1:6666", "http://10.0.0.2:6666/path?query", "http://10.0.0.2:6666"},
		{"10.0.0.1:6666", "https://10.0.0.2:6666", "https://10.0.0.2:6666"},
		{"10.0.0.1:6666", "http://:18881", ""},
		{"10.0.0.1:6666", "http://0.0.0.0:18881", ""},
		{"10.0.0.1:6666", "http://[fe80::1%25eth0]:18881", ""},
		{"10.0.0.1:6666", "http://[::]:18881", ""},
		{"10.0.0.1:6666", "http://224.0.0.1:18881", ""},
		{"10.0.0.1:6666", "10.0.0.2:6666", ""},
		{"10.0.0.1:6666", "not a url", ""},
		{"10.0.0.1:6666", "", ""},
		{"10.0.0.1:6666", "http://10.0.0.2", ""},
		{"10.0.0.1:6666", "http://10.0.0.2:0", ""},
		{"10.0.0.1:6666", "grpc://10.0.0.2:6666", ""},
		{"10.0.0.1:6666", "http://127.0.0.1:6666", ""},
		{"10.0.0.1:6666", "http://localhost:6666", ""},
		{"127.0.0.1:6666", "http://127.0.0.1:6667", "http://127.0.0.1:6667"},
		{"localhost:6666", "http://127.0.0.1:6667", "http://127.0.0.1:6667"},
		{"https://10.0.0.1:6666", "http://10.0.0.2:6666", ""},
	}
	for _, tt := range tests {
		seeds, err := parseSeeds([]string{tt.seed})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if n := parseListed(tt.addr, seeds); n != nil {
			got = n.url
		}
		if got != tt.want {
			t.Errorf("seed %s, listed %s: %q, want %q", tt.seed, tt.addr, got, tt.want)
		}
	}
}

func FuzzListedNode(f *testing.F) {
	f.Add("http://10.0.0.2:6666")
	f.Add("http://[fe80::1%25eth0]:6666")
	f.Add("http://[0::%25%80]:1")
	f.Fuzz(func(t *testing.T, addr string) {
		seeds, _ := parseSeeds([]string{"10.0.0.1:6666"})
		n := parseListed(addr, seeds)
		if n == nil {
			return
		}
		if err := registry.ValidateAddr(n.host); err != nil {
			t.Error(err)
		}
		if _, err := http.NewRequest(http.MethodPost, n.url+wire.PathFetch, nil); err != nil {
			t.Errorf("%q cannot be asked: %v", n.url, err)
		}
	})
}

// listing makes a node list these addresses as the registry's.
func listing(f *fakeNode, addrs ...string) {
	var entries []string
	for i, addr := range addrs {
		entries = append(entries, fmt.Sprintf(`{"env":"dev","appid":"Kavin.discovery","hostname":"n%d","addrs":[%q],"status":1,"reg_timestamp":%d}`, i, addr, time.Now().UnixNano()))
	}
	f.answer(wire.PathNodes, says200(`{"code":200,"data":{"instances":[`+strings.Join(entries, ",")+`]}}`))
}

// The registry's list is followed: what it adds is used when the seeds are dead, and
// a seed is gone back to.
func TestTheNodeListIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		log := &logs{}
		seed, added := n.registry(three[0]), n.registry(three[1])
		for _, node := range []*fakeNode{seed, added} {
			listing(node, "http://"+three[0], "http://"+three[1])
			node.put(instance("s", 1))
		}
		c := n.client(three[:1], WithLogger(log.logger()))
		watchIt(t, c, "s")
		pass(5 * time.Second)
		if got := len(seed.asked(wire.PathNodes, time.Time{})); got != 1 {
			t.Errorf("the list was asked for %d times soon after the start, want once", got)
		}
		n.kill(three[0])
		pass(10 * time.Second)
		if snap, err := c.Fetch(t.Context(), "s"); snap.Source != three[1] || err != nil {
			t.Fatalf("with the seed dead: %s from %s, %v", ids(snap), snap.Source, err)
		}
		since := time.Now()
		pass(10 * time.Minute)
		if got := len(added.asked(wire.PathNodes, since)); got < 6 || got > 8 {
			t.Errorf("the list was asked for %d times in 10 minutes, want every 90 s", got)
		}

		seed = n.registry(three[0])
		listing(seed, "http://"+three[0], "http://"+three[1])
		seed.put(instance("s", 1))
		pass(100 * time.Second)
		if snap, err := c.Fetch(t.Context(), "s"); snap.Source != three[0] || err != nil {
			t.Errorf("with the seed back: %s from %s, %v", ids(snap), snap.Source, err)
		}
		if got := log.count("registry nodes changed"); got != 1 {
			t.Errorf("the change of nodes was logged %d times, want once", got)
		}
		listing(seed, "http://"+three[0])
		pass(100 * time.Second)
		if got := hosts(c.nodes.list); len(got) != 1 {
			t.Errorf("nodes = %v, want only the seed, since it lists no other", got)
		}
	})
}

// Nothing that a registry lists can take the seeds away.
func TestTheSeedsAreNeverForgotten(t *testing.T) {
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("http://10.9.%d.%d:1", i/250, i%250))
	}
	for name, list := range map[string]func(*fakeNode){
		"none":          func(f *fakeNode) { listing(f) },
		"404":           func(f *fakeNode) { noNodes(f) },
		"another":       func(f *fakeNode) { listing(f, "http://10.6.6.6:6") },
		"only odd ones": func(f *fakeNode) { listing(f, "http://:18881", "http://0.0.0.0:1", "x") },
		"a thousand":    func(f *fakeNode) { listing(f, many...) },
		"HTML": func(f *fakeNode) {
			f.answer(wire.PathNodes, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) })
		},
		"an API without nodes": func(f *fakeNode) { f.answer(wire.PathNodes, http.NotFound) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				log := &logs{}
				for _, addr := range three[:2] {
					node := n.registry(addr)
					list(node)
					node.put(instance("s", 1))
				}
				c := n.client(three[:2], WithLogger(log.logger()))
				c.nodes.start = 0
				watchIt(t, c, "s")
				pass(10 * time.Minute)
				if log.count("registry node failed") > 0 {
					t.Errorf("a node was blamed for its list: %v", log.lines)
				}
				if got := len(c.nodes.list); got > 2+maxListed {
					t.Errorf("%d nodes", got)
				}
				for _, addr := range three[:2] {
					n.kill(addr)
				}
				pass(10 * time.Minute)
				n.registry(three[1]).put(instance("s", 2), instance("s", 1))
				pass(10 * time.Second)
				if snap, err := c.Fetch(t.Context(), "s"); snap.Source != three[1] || !snap.Confirmed {
					t.Errorf("after the second seed came back: %s from %s, %v", ids(snap), snap.Source, err)
				}
			})
		})
	}
}

// The registry's own env need not be the client's.
func TestRegistryEnv(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		node := n.registry(three[0])
		c := n.client(three[:1], WithEnv("prod"), WithRegistryEnv("infra"))
		c.Fetch(t.Context(), "s")
		pass(5 * time.Second)
		if got := node.asked(wire.PathNodes, time.Time{}); len(got) != 1 || got[0].body["env"] != "infra" {
			t.Errorf("asked %v, want env infra", got)
		}
	})
}
