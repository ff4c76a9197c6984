// Package oauth speaks OAuth 2.0 to a provider: it begins an authorization, waits for its callback,
// polls a device code, registers a client, exchanges and refreshes tokens, and revokes them.
//
// Everything here is a function of its arguments. A [Config] names the provider's OAuth section, the
// client to act as, the HTTP client to speak through and the clock; a [TokenSet] or an [*Error] comes
// back. Nothing is stored, nothing is logged, no file or environment variable is read. The caller
// decides what a token set is worth keeping for, serialises refreshes and records what happened.
//
// What a provider does differently from RFC 6749 is told by its definition, never by its name: how the
// client authenticates, whether a request is a form or JSON, where the token sits in the answer, what
// separates scopes, how a token is revoked.
//
// Guarantees:
//   - A secret is sent to https, or to loopback, and to no other place: redirects are not followed.
//   - A call ends within [CallTimeout] and reads at most [MaxAnswerBytes].
//   - An answer with an error in its body is an error, whatever its status.
//   - No error text holds a token, a code, a verifier, a client secret or a raw body, even when the
//     server echoes one.
package oauth
