package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"authsome/vault/secret"
)

// The numbers of RFC 8628 and our bounds for a server's own.
const (
	deviceInterval  = 5 * time.Second   // section 3.5: when the answer names none
	deviceSlowDown  = 5 * time.Second   // section 3.5: added by each slow_down
	deviceLifetime  = 900 * time.Second // when the answer names none
	maxDeviceLife   = time.Hour
	minInterval     = time.Second
	maxPollPause    = 60 * time.Second // between attempts that do not reach the server
	maxUserCode     = 64               // characters
	maxServerErrors = 6                // answers of 5xx or 429 in a row, before giving up
	deviceGrantType = "urn:ietf:params:oauth:grant-type:device_code"
)

// DeviceAuthorization is a login that was begun and waits to be approved on another device
// (RFC 8628 section 3.2).
type DeviceAuthorization struct {
	DeviceCode secret.Text
	// UserCode is what the user types at VerificationURI.
	UserCode        string
	VerificationURI string
	// VerificationURIComplete has the user code in it; "" when the provider gave none.
	VerificationURIComplete string
	ExpiresAt               time.Time
	Interval                time.Duration // between two polls, at least 1 s
	Scopes                  []string      // asked for
}

// BeginDevice asks for a device code. With device_token_request "json" the request is a JSON object.
func (c *Config) BeginDevice(ctx context.Context, scopes ...string) (*DeviceAuthorization, error) {
	const op = "begin device login"
	if c.OAuth.DeviceAuthorizationURL == "" {
		return nil, unsupported(op, "the definition has no device_authorization_url")
	}
	p := params{}
	p.set("scope", c.joinScopes(scopes))
	c.target(p)
	out := c.postAs(c.jsonDevice() || c.jsonTokens(), op, c.OAuth.DeviceAuthorizationURL, p)
	r, err := c.send(ctx, out)
	if err != nil {
		return nil, err
	}
	f, err := decode(r.contentType, r.body)
	if err != nil {
		return nil, undecodable(op, r, err)
	}
	if e := failure(op, r, f, out.secrets); e != nil {
		return nil, e
	}
	return c.device(op, r, f, scopes)
}

// device reads the answer that carries the codes.
func (c *Config) device(op string, r *reply, f fields, scopes []string) (*DeviceAuthorization, error) {
	d := &DeviceAuthorization{Scopes: slices.Clone(scopes), Interval: deviceInterval}
	if problem := readToken(f, "device_code", true, &d.DeviceCode); problem != "" {
		return nil, badResponse(op, r.status, problem)
	}
	d.UserCode = f.text("user_code")
	d.VerificationURI = firstText(f, "verification_uri", "verification_url")
	d.VerificationURIComplete = firstText(f, "verification_uri_complete", "verification_url_complete")
	if d.UserCode == "" || len(d.UserCode) > maxUserCode || !printable(d.UserCode) {
		return nil, badResponse(op, r.status, "the answer has no usable user_code")
	}
	if !browsable(d.VerificationURI) {
		return nil, badResponse(op, r.status, "the answer has no usable verification_uri")
	}
	if !browsable(d.VerificationURIComplete) { // a convenience; the other two suffice
		d.VerificationURIComplete = ""
	}
	life := deviceLifetime
	if seconds, ok := seconds(f.scalar("expires_in")); ok {
		life = min(seconds, maxDeviceLife)
	}
	if seconds, ok := seconds(f.scalar("interval")); ok {
		d.Interval = max(seconds, minInterval)
	}
	d.ExpiresAt = c.now().Add(life)
	return d, nil
}

// browsable says whether a URL may be shown and opened: a provider's answer must not make a browser
// open a file or run a script.
func browsable(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && printable(raw) && !strings.Contains(raw, " ") && u.Host != "" && u.User == nil &&
		(u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()))
}

// PollDevice asks for the tokens until the login is approved, denied or expired. It waits the interval
// before each attempt, longer after slow_down, and longer and longer while the server cannot be
// reached (RFC 8628 section 3.5).
func (c *Config) PollDevice(ctx context.Context, d *DeviceAuthorization) (*TokenSet, error) {
	const op = "device login"
	interval := max(d.Interval, minInterval)
	wait, broken := interval, 0
	for {
		if left := d.ExpiresAt.Sub(c.now()); left <= wait {
			if err := sleep(ctx, max(left, 0)); err != nil {
				return nil, ended(op, ctx)
			}
			return nil, &Error{Op: op, Code: "expired_token", Description: "the code was not approved in time", kind: ErrExpiredCode}
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, ended(op, ctx)
		}
		tokens, err := c.pollOnce(ctx, op, d)
		var e *Error
		switch {
		case err == nil:
			return tokens, nil
		case !errors.As(err, &e):
			return nil, err
		case e.Code == "authorization_pending":
			wait, broken = interval, 0
		case e.Code == "slow_down":
			interval += deviceSlowDown
			wait, broken = interval, 0
		case e.Retryable && ctx.Err() == nil && broken < maxServerErrors:
			if e.Status != 0 { // it was reached, and says that it is broken
				broken++
			}
			wait = max(interval, min(2*wait, maxPollPause), min(e.RetryAfter, maxPollPause))
		default:
			return nil, err
		}
	}
}

// pollOnce makes one attempt.
func (c *Config) pollOnce(ctx context.Context, op string, d *DeviceAuthorization) (*TokenSet, error) {
	p := params{}
	p.set("device_code", d.DeviceCode.Reveal())
	if !c.jsonDevice() {
		p.set("grant_type", deviceGrantType)
		c.target(p)
	}
	out := c.postAs(c.jsonDevice() || c.jsonTokens(), op, c.OAuth.TokenURL, p, d.DeviceCode)
	r, err := c.send(ctx, out)
	if err != nil {
		return nil, err
	}
	if c.jsonDevice() {
		if e := pending(op, r); e != nil {
			return nil, e
		}
	}
	return c.tokens(op, r, out.secrets, expected{scopes: d.Scopes})
}

// jsonDevice says whether the definition asks for the variant of the device flow that speaks JSON:
// {"device_code":…} is all that is posted, with the client id when there is one.
func (c *Config) jsonDevice() bool { return c.OAuth.DeviceTokenRequest == "json" }

// pending recognises how answers of the JSON variant say "not yet" without an error code: a status
// field, or HTTP 202.
func pending(op string, r *reply) *Error {
	f, err := decode(r.contentType, r.body)
	if err != nil && r.status != http.StatusAccepted {
		return nil
	}
	state := strings.ToLower(firstText(f, "status", "state"))
	if r.status == http.StatusAccepted || f.text("error") == "" && (state == "pending" || state == "authorization_pending") {
		return &Error{Op: op, Code: "authorization_pending", Status: r.status, kind: ErrRejected}
	}
	return nil
}

// seconds reads a positive number of seconds; false when there is none.
func seconds(value string) (time.Duration, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(n > 0) {
		return 0, false
	}
	return time.Duration(min(n, maxLifetime.Seconds()) * float64(time.Second)), true
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
