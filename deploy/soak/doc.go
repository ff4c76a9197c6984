// Package soak is the endurance test of the program as it is run in earnest:
// one long-running authsome proxy, with every limit at its default, under mixed
// and paced load, and then with everything around it failing in turn.
//
// It has tests alone. The ordinary
//
//	go test ./deploy/soak
//
// takes half a minute. The whole, with the numbers of docs/endurance.md, is
//
//	go test ./deploy/soak -timeout 60m -soak 20m -report "$PWD/docs/endurance.md"
//
// Each test is a process of its own in a network and a mount namespace of its
// own. In it there is an internet of a few addresses on the loopback device,
// with a name server, origins and an authorization server, which the proxy
// reaches as it would reach the real ones: by its resolver, by TCP, by TLS that
// is verified. Nothing in the program is replaced.
package soak
