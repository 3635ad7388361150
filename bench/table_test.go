package bench

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

var table = flag.Bool("table", false, "print how the policies compare, and whether the targets are met")

// noise is by how much two measurements of the same thing differ here.
const noise = 0.05

// TestTable measures everything side by side and prints tables. It fails if a
// target is missed.
func TestTable(t *testing.T) {
	if !*table {
		t.Skip("takes minutes: run with -args -table")
	}
	t.Run("pick", pickTable)
	t.Run("feature", featureTable)
	t.Run("set", setTable)
	t.Run("unary", unaryTable)
	t.Run("failover", failoverTable)
}

// grid prints rows of cells that line up.
type grid struct{ *tabwriter.Writer }

func newGrid(title string, head ...string) grid {
	fmt.Printf("\n%s\n\n", title)
	g := grid{tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	g.row(head...)
	return g
}

func (g grid) row(cells ...string) { fmt.Fprintln(g, strings.Join(cells, "\t")) }

func (g grid) end() {
	g.Flush()
	fmt.Println()
}

// figures are what is compared with a target: of policies, at some size.
type figures map[string]float64

// atMost prints whether no figure is above the limit, and atLeast whether none is
// below: the worst one, or all that miss it.
func (f figures) atMost(t *testing.T, limit float64, target string) {
	f.judge(t, fmt.Sprintf("%s at most %s", target, short(limit)), func(v float64) float64 { return limit - v })
}

func (f figures) atLeast(t *testing.T, limit float64, target string) {
	f.judge(t, fmt.Sprintf("%s at least %s", target, short(limit)), func(v float64) float64 { return v - limit })
}

// judge prints a verdict; margin is below 0 for what misses the target.
func (f figures) judge(t *testing.T, target string, margin func(float64) float64) {
	names := slices.SortedFunc(maps.Keys(f), func(a, b string) int {
		return cmp.Or(cmp.Compare(margin(f[a]), margin(f[b])), cmp.Compare(a, b))
	})
	missed := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return margin(f[name]) >= 0 })
	verdict, shown := "met", names[:min(1, len(names))]
	switch {
	case len(names) == 0:
		verdict = "absent"
	case len(missed) > 0:
		verdict, shown = "MISSED", missed
		t.Fail()
	}
	var list []string
	for _, name := range shown {
		list = append(list, short(f[name])+" "+name)
	}
	fmt.Printf("%-6s  %s: %s\n", verdict, target, strings.Join(list, ", "))
}

// short prints three digits.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func duration(ns float64) string { return scaled(ns, "ns", "µs", "ms", "s") }
func size(bytes float64) string  { return scaled(bytes, "B", "kB", "MB", "GB") }

func scaled(v float64, units ...string) string {
	for ; v >= 1000 && len(units) > 1; units = units[1:] {
		v /= 1000
	}
	return short(v) + " " + units[0]
}
