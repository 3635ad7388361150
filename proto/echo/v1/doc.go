// Package echov1 is the service that rollcall's examples, tests and benchmarks
// speak.
package echov1
