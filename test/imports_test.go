package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rollcall-go/rollcall"

const (
	grpc       = "google.golang.org/grpc/..."
	protobuf   = "google.golang.org/protobuf/..."
	errdetails = "google.golang.org/genproto/googleapis/rpc/errdetails"
	middleware = "github.com/grpc-ecosystem/go-grpc-middleware/v2/..."
)

// rule says what packages may import besides the standard library.
type rule struct {
	of  string // a package, or with "/..." what is below it, too
	may []string
}

// rules are the architecture. Every package has exactly one.
var rules = []rule{
	// A registry knows nothing of gRPC, and its backends nothing of each other.
	{"registry", nil},
	{"registry/internal/wire", nil},
	{"registry/internal/claim", []string{"registry"}},
	{"registry/internal/events", []string{"registry"}},
	{"registry/internal/watch", []string{"registry"}},
	{"registry/memory", []string{"registry", "registry/internal/..."}},
	{"registry/httpregistry", []string{"registry", "registry/internal/...", "internal/backoff"}},
	{"registry/registryserver", []string{"registry", "registry/internal/...", "internal/backoff"}},
	{"registry/registrytest", []string{"registry", "registry/internal/...", "internal/backoff"}},

	// The bridges, where both sides of gRPC meet.
	{"pick", nil},
	{"endpoint", []string{"registry", grpc}},
	{"drain", []string{grpc, errdetails}},

	// The parts, which never import each other.
	{"resolver", []string{"registry", "endpoint", "internal/backoff", grpc}},
	{"balancer", []string{"registry", "endpoint", "pick", "drain", "internal/backoff", grpc, protobuf}},
	{"registrar", []string{"registry", "drain", "internal/backoff", grpc}},
	{"interceptors/track", []string{"pick", "drain", grpc}},
	{"interceptors/failmode", []string{"interceptors/internal/attempt", "pick", "drain", "internal/backoff", grpc, protobuf}},
	{"interceptors/internal/attempt", []string{"pick", "drain", "internal/backoff", grpc}},

	{"internal/backoff", nil},
	{"proto/...", []string{grpc, protobuf}},

	// What only tests import.
	{"internal/proc", nil},
	{"internal/fakecc", []string{grpc}},
	{"internal/testenv", []string{"registry", "registry/memory", "registry/registrytest", "internal/backoff", "proto/...", grpc}},
	{"test/...", nil},

	// Programs put the parts together.
	{"cmd/...", []string{"registry/...", "cmd/..."}},
	{"examples/internal/cli", nil},
	{"examples/demo", []string{"examples/internal/...", "internal/proc"}},
	{"examples/quickstart/...", programs},
	{"examples/echo-client", programs},
	{"examples/echo-server", programs},
}

var programs = []string{
	"registry/...", "resolver", "balancer", "registrar", "interceptors/...", "drain",
	"proto/...", "examples/internal/...", grpc, middleware,
}

// forTests are packages that no rule lets anybody import.
var forTests = []string{"internal/fakecc", "internal/testenv"}

func TestImportsKeepTheArchitecture(t *testing.T) {
	for _, violation := range violations(rules, packages(t)) {
		t.Error(violation)
	}
}

// violations says what in the packages is against the rules.
func violations(rules []rule, packages []listed) (found []string) {
	for _, p := range packages {
		of := local(p.ImportPath)
		fitting := slices.DeleteFunc(slices.Clone(rules), func(r rule) bool { return !fits(of, r.of) })
		if len(fitting) != 1 {
			found = append(found, fmt.Sprintf("%s has %d rules: say once in the table what it may import", of, len(fitting)))
			continue
		}
		for _, path := range p.Imports {
			if !isStandard(path) && !fitting[0].allows(local(path)) {
				found = append(found, fmt.Sprintf("%s imports %s; it may import %v", of, path, fitting[0].may))
			}
		}
	}
	for _, r := range rules {
		if !slices.ContainsFunc(packages, func(p listed) bool { return fits(local(p.ImportPath), r.of) }) {
			found = append(found, fmt.Sprintf("the rule for %s is for no package", r.of))
		}
	}
	return found
}

func (r rule) allows(path string) bool {
	return !slices.Contains(forTests, path) && slices.ContainsFunc(r.may, func(pattern string) bool { return fits(path, pattern) })
}

// local is the path within the module.
func local(path string) string { return strings.TrimPrefix(path, module+"/") }

func TestViolationsAreFound(t *testing.T) {
	all := packages(t)
	if found := violations(rules, all); len(found) > 0 {
		t.Fatalf("they are in the module itself: %q", found)
	}
	for _, test := range []struct{ of, imports, want string }{
		{"registry", "google.golang.org/grpc/codes", "registry imports google.golang.org/grpc/codes"},
		{"registry/memory", "google.golang.org/grpc", "registry/memory imports google.golang.org/grpc"},
		{"registry/httpregistry", module + "/registry/registryserver", "registry/httpregistry imports"},
		{"registry/internal/wire", module + "/registry", "registry/internal/wire imports"},
		{"pick", module + "/registry", "pick imports"},
		{"pick", "google.golang.org/grpc/status", "pick imports"},
		{"drain", module + "/pick", "drain imports"},
		{"resolver", module + "/balancer", "resolver imports"},
		{"resolver", module + "/registry/httpregistry", "resolver imports"},
		{"balancer", module + "/interceptors/failmode", "balancer imports"},
		{"balancer", module + "/resolver", "balancer imports"},
		{"registrar", module + "/registry/memory", "registrar imports"},
		{"interceptors/track", module + "/interceptors/failmode", "interceptors/track imports"},
		{"interceptors/failmode", module + "/balancer", "interceptors/failmode imports"},
		{"interceptors/failmode", "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector", "interceptors/failmode imports"},
		{"resolver", module + "/internal/testenv", "resolver imports"},
		{"cmd/registryd", "go.etcd.io/etcd/client/v3", "cmd/registryd imports"},
		{"registry/etcd", "context", "registry/etcd has 0 rules"},
		{"interceptors/newone", "google.golang.org/grpc", "interceptors/newone has 0 rules"},
	} {
		added := append(slices.Clone(all), listed{ImportPath: module + "/" + test.of, Imports: []string{test.imports}})
		if found := violations(rules, added); len(found) != 1 || !strings.HasPrefix(found[0], test.want) {
			t.Errorf("when %s imports %s: %q, want %q", test.of, test.imports, found, test.want)
		}
	}
	if found := violations(append(slices.Clone(rules), rule{of: "registry/..."}), all); len(found) == 0 {
		t.Error("two rules for one package are not found")
	}
	if found := violations(append(slices.Clone(rules), rule{of: "gone"}), all); !slices.Equal(found, []string{"the rule for gone is for no package"}) {
		t.Errorf("a rule for no package: %q", found)
	}
}

// A user's module gets what is needed and nothing else.
func TestDependencies(t *testing.T) {
	want := []string{
		"github.com/grpc-ecosystem/go-grpc-middleware/v2",
		"google.golang.org/genproto/googleapis/rpc",
		"google.golang.org/grpc",
		"google.golang.org/protobuf",
	}
	edit := exec.Command("go", "mod", "edit", "-json")
	edit.Dir = ".."
	out, err := edit.Output()
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &file); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, require := range file.Require {
		if !require.Indirect {
			got = append(got, require.Path)
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the module depends directly on %v, want %v", got, want)
	}
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) (all []listed) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// fits says whether the pattern names the path or, with "/...", something above.
func fits(path, pattern string) bool {
	root, below := strings.CutSuffix(pattern, "/...")
	return path == root || below && strings.HasPrefix(path, root+"/")
}

// isStandard: the first element of all other paths is a domain.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}
