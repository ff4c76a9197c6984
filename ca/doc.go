// Package ca is authsome's certificate authority: the root of one run, the
// leaves that intercepted connections are answered with, and the files and
// variables that make a child process trust them.
//
// What it guarantees:
//
//   - The root is made in memory and carries critical name constraints
//     (RFC 5280 section 4.2.1.10): it can vouch for the hosts of known
//     providers and for nothing else, whoever gets hold of its key.
//   - A leaf names exactly one host. No wildcard is ever issued, and a host
//     outside the constraints is refused before anything is signed.
//   - What a child already trusts it keeps trusting: the bundle is the
//     parent's own files, the system's roots, and ours.
//
// What it does not: a JVM takes a root out of its trust store for a name and a
// key, and does not look at the constraints it carries. OpenSSL, GnuTLS, Go and
// what is built on them do. Below a fleet's root (Enroll) the constraints are on
// the path, and a JVM applies them too.
//
// The root signs leaves directly, and only the leaf is sent: with a constraint
// per provider the root is many times larger than a leaf, and a client that does
// not hold it already has no use for it.
//
// The package knows nothing of HTTP, providers or credentials. Hosts come in
// canonical form: lower-case ASCII without a trailing dot, or an IP literal
// without brackets.
package ca
