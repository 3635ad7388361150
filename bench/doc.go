// Package bench measures rollcall side by side with others, each through its own
// builder on the same stubs or the same servers. It has a go.mod of its own, so
// that what it compares with stays out of the library's. The output is for
// benchstat:
//
//	go test -run '^$' -bench . -count 10 | tee new.txt
//	benchstat -col /policy -row .name,/n,/call,/mode new.txt
//
// Compare within one run: on a busy machine the ratios hold, the nanoseconds do
// not. What takes grpc-go's policies minutes is left out unless the flag -slow is
// given after -args.
package bench
