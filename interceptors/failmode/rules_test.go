package failmode_test

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rollcall-go/rollcall/interceptors/failmode"
	"github.com/rollcall-go/rollcall/pick"
)

// table returns the rows of the table in RULES.md that has these columns.
func table(t *testing.T, columns ...string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile("RULES.md")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		switch {
		case slices.Equal(cells, columns):
			found = true
		case found && len(cells) != len(columns):
			return rows
		case found && !strings.HasPrefix(cells[0], "-"):
			rows = append(rows, cells)
		}
	}
	if !found {
		t.Fatalf("RULES.md has no table with the columns %q", columns)
	}
	return rows
}

func TestRulesNameEveryClassAndWhatIsCertainAboutIt(t *testing.T) {
	rows := table(t, "class", "what happened", "executed?")
	for class := range pick.Untracked + 1 {
		i := slices.IndexFunc(rows, func(row []string) bool { return row[0] == class.String() })
		if i < 0 {
			t.Errorf("%v is missing", class)
		} else if got := rows[i][2] == "certainly not"; got != class.NotExecuted() {
			t.Errorf("%v: the page says %q", class, rows[i][2])
		}
	}
	if len(rows) != int(pick.Untracked)+1 {
		t.Errorf("%d rows", len(rows))
	}
}

// classes and endings are what the cells of the rule table stand for.
func classes(cell string) (list []pick.Class) {
	for class := range pick.Untracked + 1 {
		if cell == class.String() || cell == "any" {
			list = append(list, class)
		}
	}
	return list
}

func endings(cell string) (list []outcome) {
	if cell == "Unavailable, own timeout" {
		return []outcome{{code: codes.Unavailable}, {hang: true}}
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		if code != codes.Unavailable {
			list = append(list, outcome{code: code})
		}
	}
	return list
}

// modes are the columns of the rule table, by name.
var ruleColumns = []string{"class", "code", "method", "failfast", "failretry", "failover", "forking", "broadcast", "failsafe"}

// rule is a cell of the rule table: what follows in the mode when an attempt of the
// method ends like this.
type rule struct {
	class, code string
	idempotent  bool
	mode        failmode.Mode
	then        string
}

func rules(t *testing.T) (list []rule) {
	rows := table(t, ruleColumns...)
	if len(rows) != 14 {
		t.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		for i, then := range row[3:] {
			mode, err := failmode.ParseMode(ruleColumns[3+i])
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, rule{row[0], row[1], row[2] == "idempotent", mode, then})
		}
	}
	return list
}

// Every cell of the table, with every class and code for which it stands.
func TestEveryRuleHolds(t *testing.T) {
	for _, r := range rules(t) {
		for _, class := range classes(r.class) {
			for _, o := range endings(r.code) {
				o.class = class
				tryRule(t, r, o)
			}
		}
	}
}

func tryRule(t *testing.T, r rule, o outcome) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: []outcome{o, {class: o.class}}}
		err := call(t.Context(), f, failmode.UnaryClientInterceptor(r.mode, failmode.Idempotent(r.idempotent),
			failmode.WithPerAttemptTimeout(time.Minute), failmode.WithLogger(slog.New(slog.DiscardHandler))))
		attempts := map[string]int{"error": 1, "hidden": 1, "same": 2, "other": 2, "again": 2, "not made": 0}
		want, known := attempts[r.then]
		if !known {
			t.Fatalf("the table says %q", r.then)
		}
		failed := r.then == "error" || r.then == "not made"
		if r.mode == failmode.Broadcast && o.class == pick.Untracked {
			failed = true // for nobody says which instances there are
		}
		if len(f.made) != want || (err != nil) != failed {
			t.Errorf("%+v after %v: %d attempts, %v; want %d", r, o.code, len(f.made), err, want)
		}
		if want == 2 && r.then != "again" && (f.made[0] == f.made[1]) != (r.then == "same") {
			t.Errorf("%+v: went to %v", r, f.made)
		}
	})
}

func TestRulesNameTheModes(t *testing.T) {
	rows := table(t, "mode", "attempts", "next attempt", "wait before it")
	for _, row := range rows {
		mode, err := failmode.ParseMode(row[0])
		if err != nil {
			t.Error(err)
		}
		synctest.Test(t, func(t *testing.T) {
			f := &fake{script: []outcome{unavailable}}
			call(t.Context(), f, failmode.UnaryClientInterceptor(mode, failmode.Idempotent(true)))
			if most, _, _ := strings.Cut(row[1], " "); most != fmt.Sprint(len(f.made)) {
				t.Errorf("%v: %d attempts, the page says %s", mode, len(f.made), row[1])
			}
		})
	}
	if len(rows) != int(failmode.Broadcast)+1 {
		t.Errorf("%d rows", len(rows))
	}
}
