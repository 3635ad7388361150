// Package shutdown counts the calls that a rolling restart costs, with several ways
// to take a server down and several clients, side by side under the same load on
// real sockets:
//
//	go test -timeout 0 -v -run TestTable -args -table
//
// The registry is rollcall's, polled twice a second by all of them. A server that is
// taken down comes back on the same port or on a new one, and the next one's turn
// comes when clients have had a poll to learn of it; or four new ones come, and the
// four old ones go at once.
package shutdown
