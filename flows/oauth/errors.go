package oauth

import (
	"fmt"
	"strings"
	"time"
)

// What an [*Error] can be matched against with errors.Is.
var (
	// ErrInvalidGrant is returned when the authorization code or the refresh token is spent, expired,
	// revoked or was issued to another client (RFC 6749 section 5.2). Only a new login helps.
	ErrInvalidGrant = sentinel("the grant is no longer valid")
	// ErrInvalidClient is returned when the provider does not accept the client id or secret, or the
	// way they were sent (RFC 6749 section 5.2).
	ErrInvalidClient = sentinel("the client was not accepted")
	// ErrAccessDenied is returned when the user, or the provider on their behalf, declined.
	ErrAccessDenied = sentinel("access was denied")
	// ErrExpiredCode is returned when a device code ran out before it was approved (RFC 8628 section 3.5).
	ErrExpiredCode = sentinel("the code expired before it was approved")
	// ErrRejected is returned for every other error that the provider names.
	ErrRejected = sentinel("the provider rejected the request")

	// ErrTimeout is returned when no complete answer came within the limit, or the user did not finish.
	ErrTimeout = sentinel("timed out")
	// ErrCancelled is returned when the caller's context was cancelled; context.Canceled matches too.
	ErrCancelled = sentinel("cancelled")
	// ErrUnreachable is returned when no connection could be made or it broke.
	ErrUnreachable = sentinel("the endpoint could not be reached")
	// ErrUntrusted is returned when the server's certificate is not one that is trusted here.
	// [ErrUnreachable] matches too.
	ErrUntrusted = sentinel("the server's certificate is not trusted")
	// ErrUnavailable is returned when the provider says that it cannot answer now: 429, 5xx,
	// temporarily_unavailable.
	ErrUnavailable = sentinel("the provider is unavailable")
	// ErrBadResponse is returned when the answer is not what the protocol allows: HTML, a redirect, more
	// than [MaxAnswerBytes], no access token.
	ErrBadResponse = sentinel("the answer is not usable")

	// ErrInsecureURL is returned when a secret would have gone to a URL that is neither https nor loopback.
	ErrInsecureURL = sentinel("the URL is not https")
	// ErrPortUnavailable is returned when the port of the callback cannot be listened on.
	ErrPortUnavailable = sentinel("the callback's port is not available")
	// ErrUnsupported is returned when the definition lacks what the operation needs.
	ErrUnsupported = sentinel("not supported by the definition")
)

type sentinel string

func (s sentinel) Error() string { return string(s) }

// Error is every failure of this package. Its text is safe to show and to log: it is cleaned of
// control characters, bounded, and holds no secret that was sent or received.
type Error struct {
	Op          string        // what was attempted: "refresh", "exchange code", …
	Code        string        // the provider's error code (RFC 6749 section 5.2), or one of ours: timeout, cancelled, unreachable, bad_response, insecure_url, unsupported, port_unavailable, http_<status>
	Description string        // one line, at most 300 characters; "" when there is nothing to say
	Status      int           // HTTP status of the answer; 0 when there was none
	Retryable   bool          // the same request may succeed later without anybody doing anything
	RetryAfter  time.Duration // how long the provider asked to wait; 0 when it did not
	// AnswerLost says that the request may have been carried out although no answer was had. After a
	// refresh it means that the refresh token may already have been rotated.
	AnswerLost bool

	kind  error // one of the sentinels
	cause error // context.Canceled, context.DeadlineExceeded, ErrUntrusted or a [*LocalError], else nil
}

// LocalError is what the caller's HTTP client fails with when something on this machine keeps it from
// asking anybody. Its text and its hint are passed on: they must hold no secret.
type LocalError struct {
	Err  error
	Next string // what to do
}

// Error implements error.
func (e *LocalError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *LocalError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *LocalError) Hint() string { return e.Next }

// Error says what failed, the code, the description and the status on one line.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(e.Code)
	if e.Description != "" {
		b.WriteString(": " + e.Description)
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	return b.String()
}

// Unwrap gives the sentinel and the cause: after a cancellation, the context's own error.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.kind != nil {
		errs = append(errs, e.kind)
	}
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	return errs
}

// badResponse is an answer that the protocol does not allow.
func badResponse(op string, status int, description string) *Error {
	return &Error{Op: op, Code: "bad_response", Description: description, Status: status, kind: ErrBadResponse}
}

func unsupported(op, description string) *Error {
	return &Error{Op: op, Code: "unsupported", Description: description, kind: ErrUnsupported}
}

// kinds maps the codes that providers use for the same thing to one sentinel. The first of each group
// is the standard's; the others are what answers in the field carry instead.
var kinds = map[string]error{
	"invalid_grant":         ErrInvalidGrant,
	"bad_refresh_token":     ErrInvalidGrant,
	"invalid_refresh_token": ErrInvalidGrant,
	"refresh_token_expired": ErrInvalidGrant,
	"refresh_token_revoked": ErrInvalidGrant,
	"token_revoked":         ErrInvalidGrant,
	"bad_verification_code": ErrInvalidGrant,
	"bad_auth_code":         ErrInvalidGrant,
	"invalid_code":          ErrInvalidGrant,
	"code_already_used":     ErrInvalidGrant,
	"code_expired":          ErrInvalidGrant,

	"invalid_client":               ErrInvalidClient,
	"incorrect_client_credentials": ErrInvalidClient,
	"invalid_client_id":            ErrInvalidClient,
	"invalid_client_secret":        ErrInvalidClient,
	"bad_client_id":                ErrInvalidClient,
	"bad_client_secret":            ErrInvalidClient,

	"access_denied":         ErrAccessDenied,
	"authorization_denied":  ErrAccessDenied,
	"user_denied":           ErrAccessDenied,
	"authorization_expired": ErrExpiredCode,
	"expired_token":         ErrExpiredCode,

	"temporarily_unavailable": ErrUnavailable,
	"server_error":            ErrUnavailable,
	"internal_error":          ErrUnavailable,
	"service_unavailable":     ErrUnavailable,
	"rate_limited":            ErrUnavailable,
	"ratelimited":             ErrUnavailable,
	"too_many_requests":       ErrUnavailable,
}

// kindOf finds the sentinel for a provider's error code and the status it came with. A code that is
// known decides; a status alone says only whether waiting may help.
func kindOf(code string, status int) error {
	if kind, ok := kinds[strings.ToLower(code)]; ok {
		return kind
	}
	if status == 408 || status == 429 || status >= 500 {
		return ErrUnavailable
	}
	return ErrRejected
}
