// Package flows makes credentials and keeps them fresh: login, refresh,
// revocation, and the [Broker] that ties them to the vault.
//
// A connection is one credential of one provider in one profile. Its record
// pins, at login, where the credential may be sent (host_url) and where it is
// renewed (token_url), so that a provider definition that changes afterwards
// can redirect neither.
package flows
