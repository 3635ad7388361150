// Package bench measures rollcall side by side with others, each through its own
// builder on the same stubs or the same servers. It has a go.mod of its own, so
// that what it compares with stays out of the library's.
//
// TestTable prints how they compare, and which targets rollcall meets:
//
//	go test -tags peers,no_k8s -run TestTable -timeout 0 -args -table
//
// The benchmarks' output is for benchstat:
//
//	go test -run '^$' -bench . -count 10 | tee new.txt
//	benchstat -col /policy -row .name,/change,/n,/call,/mode new.txt
//
// Compare within one run: on a busy machine the ratios hold, the nanoseconds do
// not, and on cores that others use nothing runs in parallel. What takes others
// minutes is left out unless the flag -slow is given after -args. The build tag
// "peers" adds kratos and go-zero, which have many dependencies; "no_k8s" leaves
// out some of them.
package bench
