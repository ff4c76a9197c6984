// Package provider holds what is known of each API: where it lives, how one
// logs in to it, and how a credential is attached to a request. It holds no
// credential itself.
//
// A [Definition] is one JSON file. A set is bundled in the program; the files
// of a user's own directory win over it. [Load] makes a [Registry] of both.
//
// A definition decides where a secret may go, so this package refuses what it
// does not fully understand: [ParseHostURL] accepts a regular expression only
// after it has shown, on the expression's syntax tree, that every host that
// can match ends in one literal registrable domain.
package provider

// The catalogue and the schema under docs/ are made from the definitions.
//go:generate go test -run ^TestDocs$ . -update
