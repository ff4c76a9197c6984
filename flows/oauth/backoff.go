package oauth

import "time"

const (
	// RefreshWindow is how long before its expiry a token is refreshed: long enough for a slow request
	// that was sent just before, and for clocks that differ.
	RefreshWindow = 300 * time.Second

	firstPause = time.Second
	lastPause  = 60 * time.Second
)

// NeedsRefresh says whether a token that expires at expiresAt (zero: never) is within window of its
// end. The boundary itself counts as within.
func NeedsRefresh(expiresAt, now time.Time, window time.Duration) bool {
	return !expiresAt.IsZero() && !now.Before(expiresAt.Add(-window))
}

// Expired says whether a token that expires at expiresAt (zero: never) has expired.
func Expired(expiresAt, now time.Time) bool { return NeedsRefresh(expiresAt, now, 0) }

// Backoff says when a failing endpoint may be tried again. The zero value allows the first attempt.
// It is a value: a caller keeps it where it keeps the rest of a connection's state.
type Backoff struct {
	Failures int       `json:"failures,omitempty"` // failures in a row
	Until    time.Time `json:"until,omitzero"`     // no attempt before this
}

// Ready says whether an attempt is allowed at now.
func (b Backoff) Ready(now time.Time) bool { return !now.Before(b.Until) }

// Failed is the state after a failure at now: a pause of 1 s that doubles to 60 s, or what the provider
// asked for (asked, 0 when it did not) if that is longer. A success goes back to the zero value.
func (b Backoff) Failed(now time.Time, asked time.Duration) Backoff {
	return Backoff{Failures: b.Failures + 1, Until: now.Add(max(pause(b.Failures), asked))}
}

// pause is the wait after the given number of earlier failures.
func pause(failures int) time.Duration {
	wait := firstPause
	for range failures {
		if wait *= 2; wait >= lastPause {
			return lastPause
		}
	}
	return wait
}
