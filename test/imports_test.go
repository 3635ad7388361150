package test

import (
	"encoding/json"
	"errors"
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

// rule says what a package may import.
type rule struct {
	of  string
	may []string
}

// imports is the architecture: what each package may import besides the standard
// library. The first rule that fits a package holds; "/..." means whatever is
// below, too. A package without a rule fails the test.
var imports = []rule{
	// A registry knows nothing of gRPC.
	{"registry/...", []string{"registry/...", "internal/backoff"}},

	// Both sides of gRPC meet in these.
	{"pick", nil},
	{"endpoint", []string{"registry", grpc}},
	{"drain", []string{grpc, errdetails}},

	// The parts, which never import each other.
	{"resolver", []string{"registry", "endpoint", "internal/backoff", grpc}},
	{"balancer", []string{"registry", "endpoint", "pick", "drain", "internal/backoff", grpc}},
	{"registrar", []string{"registry", "drain", "internal/backoff", grpc}},
	{"interceptors/...", []string{"interceptors/internal/...", "pick", "drain", "internal/backoff", grpc, protobuf}},

	{"internal/backoff", nil},
	{"internal/proc", nil},
	{"internal/fakecc", []string{grpc}},
	{"internal/testenv", []string{"registry", "registry/memory", "registry/registrytest", "proto/...", grpc}},
	{"proto/...", []string{grpc, protobuf}},

	// Programs put the parts together.
	{"cmd/...", []string{"registry/...", "cmd/..."}},
	{"examples/demo", []string{"examples/internal/...", "internal/proc"}},
	{"examples/internal/...", nil},
	{"examples/...", []string{"registry/...", "resolver", "balancer", "registrar", "interceptors/...", "drain", "proto/...", "examples/internal/...", grpc, middleware}},
	{"test", nil},
}

// forTests are packages that only tests may import.
var forTests = []string{"internal/fakecc", "internal/testenv"}

func TestImportsKeepTheArchitecture(t *testing.T) {
	for _, p := range packages(t) {
		of := strings.TrimPrefix(p.ImportPath, module+"/")
		i := slices.IndexFunc(imports, func(r rule) bool { return fits(of, r.of) })
		if i < 0 {
			t.Errorf("%s has no rule: say in the table what it may import", of)
			continue
		}
		for _, path := range p.Imports {
			if !isStandard(path) && !imports[i].allows(strings.TrimPrefix(path, module+"/")) {
				t.Errorf("%s imports %s; it may import %v, and for tests only %v", of, path, imports[i].may, forTests)
			}
		}
	}
}

func (r rule) allows(path string) bool {
	return !slices.Contains(forTests, path) && slices.ContainsFunc(r.may, func(pattern string) bool { return fits(path, pattern) })
}

// A user's module gets what is needed and nothing else.
func TestDependencies(t *testing.T) {
	want := []string{
		"github.com/grpc-ecosystem/go-grpc-middleware/v2",
		"google.golang.org/genproto/googleapis/rpc",
		"google.golang.org/grpc",
		"google.golang.org/protobuf",
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, want) {
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
