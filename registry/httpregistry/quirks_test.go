package httpregistry

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// quirks are what a correct client of the API must handle, in the order of the
// wire contract's list, and the tests that hold it.
var quirks = []struct {
	quirk string
	tests string
}{
	{"POST with a JSON body to exact paths; another status than 200 or no JSON is a failed node", "TestRequestsAreAsTheAPIWantsThem TestBadRegistry"},
	{"the code first; data and message may be missing", "TestAnswersWithoutWhatTheCodeDoesNotPromise TestBadRegistry FuzzAnswer"},
	{"own timeouts, and a size cap that allows megabytes", "TestAHungNodeCostsOneTimeout TestLargeServices TestBadRegistry"},
	{"no '-' in env, no registration as Kavin.discovery, no empty identity", "TestOptions TestRegisterRefusesWhatTheRegistryWouldGarble TestContract"},
	{"never dirtytimestamp, latesttimestamp or replication", "TestRequestsAreAsTheAPIWantsThem"},
	{"renew every 30 s with jitter, to one node", "TestHeartbeat"},
	{"a renew answered 404: register again at that node, without a stampede", "TestALostInstanceIsRegisteredAgainWhereItIsMissing TestNoStampedeAfterARestart TestARegistryThatKeepsForgettingIsNotHammered"},
	{"a register is verified early", "TestARegistrationIsVerifiedEarly TestTheBeatNeverGivesUp"},
	{"registered again now and then, and soon after a change", "TestEveryNodeShowsTheInstance TestChecksAreRareInLargeServices TestUpdateReplacesAllAndWritesTwice"},
	{"operations on one instance are spaced", "TestOperationsAreSpaced"},
	{"a change replaces the whole instance", "TestUpdateReplacesAllAndWritesTwice"},
	{"404 to a cancel is done, and every node is told", "TestDeregisterTellsEveryNodeThatAnswers TestDeregisterTriesASecondNodeAfter404 TestBeatAndDeregisterNeverCross"},
	{"404 and 304 are no news: the last good set stays, others are asked, in the end it is believed", "TestBelief TestBeliefInvariants TestTheRegistryRestartsEmpty TestTheRegistryRestartsAgainAndAgain TestIdleWhileTheRegistryRestarts TestScaleToZeroIsHonoured TestNotModifiedIsAskedAnotherWay"},
	{"entries may be stale", "TestOneServerPerAddress"},
	{"views differ between nodes", "TestAViewThatIsSplitIsMerged TestBelief"},
	{"poll with jitter, compare content, ignore order", "TestWatchersShareAPoller TestWatchComparesContent"},
	{"timestamps are int64 and not compared across nodes", "TestOddEntriesAreSkipped TestBeliefNoticesAnUnseenRestart"},
	{"addrs may be null, empty, duplicated, no URLs, of other schemes", "TestDecodeTakesOnlyWhatIsOurs TestOddEntriesAreSkipped FuzzDecode"},
	{"nodes: odd entries ignored, seeds kept, 404 changes nothing, the registry's own env", "TestListedNodes TestTheSeedsAreNeverForgotten TestTheNodeListIsFollowed TestRegistryEnv"},
	{"register, renew and cancel are repeated blindly", "TestContract TestABeatThatFailsIsRepeatedOnAnotherNodeAtOnce TestIdleConnectionsMayBreak"},
	{"no redirect is followed", "TestBadRegistry"},
}

func TestEveryQuirkHasATest(t *testing.T) {
	if len(quirks) != 21 {
		t.Errorf("%d quirks, the contract has 21", len(quirks))
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				exists[f.Name.Name] = true
			}
		}
	}
	for i, q := range quirks {
		for name := range strings.FieldsSeq(q.tests) {
			if !exists[name] {
				t.Errorf("quirk %d (%s) names the test %s, which does not exist", i+1, q.quirk, name)
			}
		}
	}
}
