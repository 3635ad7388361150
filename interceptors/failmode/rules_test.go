package failmode_test

import (
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

func TestEveryRowOfTheRules(t *testing.T) {
	rows := table(t, "class", "code", "idempotent", "any other")
	if len(rows) != 7 {
		t.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		for _, class := range classes(row[0]) {
			for _, o := range endings(row[1]) {
				o.class = class
				for i, idempotent := range []bool{true, false} {
					for _, mode := range []failmode.Mode{failmode.Failfast, failmode.Failretry, failmode.Failover} {
						tryRow(t, o, idempotent, mode, row[2+i] == "yes")
					}
				}
			}
		}
	}
}

func tryRow(t *testing.T, o outcome, idempotent bool, mode failmode.Mode, again bool) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{script: []outcome{o, {class: pick.Answered}}}
		err := call(t.Context(), f, failmode.UnaryClientInterceptor(mode, failmode.Idempotent(idempotent),
			failmode.WithPerAttemptTimeout(time.Minute)))
		want := 1
		if again && mode != failmode.Failfast {
			want = 2
		}
		if len(f.made) != want || (err == nil) != (want == 2) {
			t.Errorf("%v, %v, idempotent %t, %v: %d attempts, %v; want %d", o.class, o.code, idempotent, mode, len(f.made), err, want)
		}
		same := want == 2 && f.made[0] == f.made[1]
		if picked := o.class != pick.NeverPicked && o.class != pick.Untracked; picked && want == 2 && same != (mode == failmode.Failretry) {
			t.Errorf("%v, %v: went to %v", o.class, mode, f.made)
		}
	})
}

func TestRulesNameTheModes(t *testing.T) {
	for _, row := range table(t, "mode", "next attempt", "wait before it") {
		if _, err := failmode.ParseMode(row[0]); err != nil {
			t.Error(err)
		}
	}
}
