package test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are the texts whose claims are checked.
var documents = []string{"README.md", "CONTRIBUTING.md", "docs/deploy.md"}

// The Go code in the documents is code of the repository: it compiles, and what
// it is part of is tested.
func TestDocumentedCodeIsInTheRepository(t *testing.T) {
	var sources []string
	walk(t, ".go", func(_, text string) { sources = append(sources, squeeze(text)) })
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```")
	found := 0
	for _, name := range documents {
		for _, block := range blocks.FindAllStringSubmatch(document(t, name), -1) {
			found++
			code := squeeze(block[1])
			if !slices.ContainsFunc(sources, func(source string) bool { return strings.Contains(source, code) }) {
				t.Errorf("%s has code that is in no Go file:\n%s", name, block[1])
			}
		}
	}
	if found < 2 {
		t.Errorf("found %d blocks of code, want at least those of a client and a server", found)
	}
}

// The tests that the documents name as holding a promise exist.
func TestDocumentedTestsExist(t *testing.T) {
	var tests strings.Builder
	walk(t, "_test.go", func(_, text string) { tests.WriteString(text) })
	names := regexp.MustCompile(`\b(?:Test|Fuzz|Example|Benchmark)[A-Z_]\w*`)
	for _, name := range documents {
		for _, test := range names.FindAllString(document(t, name), -1) {
			if !strings.Contains(tests.String(), "func "+test+"(") {
				t.Errorf("%s names %s, which does not exist", name, test)
			}
		}
	}
}

// The files, folders and make targets that the documents name exist.
func TestDocumentedPathsExist(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	targets := regexp.MustCompile("`make ([a-z-]+)")
	makefile := document(t, "Makefile")
	for _, name := range documents {
		for _, link := range links.FindAllStringSubmatch(document(t, name), -1) {
			if _, err := os.Stat(filepath.Join("..", filepath.Dir(name), link[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, link[1], err)
			}
		}
		for _, target := range targets.FindAllStringSubmatch(document(t, name), -1) {
			if !strings.Contains(makefile, "\n"+target[1]+":") {
				t.Errorf("%s says make %s, which is no target", name, target[1])
			}
		}
	}
}

// Every target of the Makefile says in make help what it is for.
func TestEveryTargetIsExplained(t *testing.T) {
	out, err := exec.Command("make", "-C", "..", "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, phony := range regexp.MustCompile(`(?m)^\.PHONY: (\S+)`).FindAllStringSubmatch(document(t, "Makefile"), -1) {
		if !regexp.MustCompile(`(?m)^  make ` + phony[1] + ` +\S`).Match(out) {
			t.Errorf("make help does not explain %s", phony[1])
		}
	}
}

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// walk calls each for every file of the repository whose name ends so.
func walk(t *testing.T, suffix string, each func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			each(path, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// squeeze drops what does not matter for whether two pieces of code are the
// same: space at the ends of lines, and empty lines at the ends of the text.
func squeeze(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}
