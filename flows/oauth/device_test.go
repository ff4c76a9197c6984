package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"authsome/flows/oauth"
	"authsome/provider"
	"authsome/vault/secret"
)

// polled is a device login against a script of answers, one per poll. Times are since the start.
func polled(t *testing.T, script []func() (*http.Response, error), change func(*oauth.Config, *oauth.DeviceAuthorization)) (tokens *oauth.TokenSet, at []time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := scripted(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(start))
			if len(at) > len(script) {
				return script[len(script)-1]()
			}
			return script[len(at)-1]()
		})
		c.Clock = time.Now
		d := &oauth.DeviceAuthorization{
			DeviceCode: secret.New(canary + "-device"), ExpiresAt: start.Add(900 * time.Second), Interval: 5 * time.Second,
			Scopes: []string{"asked"},
		}
		if change != nil {
			change(c, d)
		}
		tokens, err = c.PollDevice(t.Context(), d)
	})
	if err != nil {
		checkText(t, err)
	}
	return tokens, at, err
}

func says(status int, body string) func() (*http.Response, error) {
	return func() (*http.Response, error) { return response(status, "application/json", body), nil }
}

var (
	pendingAnswer  = says(400, `{"error":"authorization_pending"}`)
	slowDownAnswer = says(400, `{"error":"slow_down"}`)
	tokenAnswer    = says(200, `{"access_token":"a"}`)
	brokenAnswer   = func() (*http.Response, error) { return nil, &net.OpError{Op: "dial", Err: errors.New("no route")} }
	downAnswer     = says(503, `{}`)
)

func TestPollDevice(t *testing.T) {
	script := func(f ...func() (*http.Response, error)) []func() (*http.Response, error) { return f }
	for _, test := range []struct {
		name   string
		script []func() (*http.Response, error)
		change func(*oauth.Config, *oauth.DeviceAuthorization)
		want   error
		at     string // seconds of the polls
	}{
		{"at once", script(tokenAnswer), nil, nil, "[5s]"},
		{"pending", script(pendingAnswer, pendingAnswer, tokenAnswer), nil, nil, "[5s 10s 15s]"},
		{"slow down adds up", script(slowDownAnswer, pendingAnswer, slowDownAnswer, tokenAnswer), nil, nil, "[5s 15s 25s 40s]"},
		{"slow down with 429", script(says(429, `{"error":"slow_down"}`), tokenAnswer), nil, nil, "[5s 15s]"},
		{"pending with status 200", script(says(200, `{"error":"authorization_pending"}`), tokenAnswer), nil, nil, "[5s 10s]"},
		{"own interval", script(pendingAnswer, tokenAnswer), func(_ *oauth.Config, d *oauth.DeviceAuthorization) { d.Interval = 7 * time.Second }, nil, "[7s 14s]"},
		{"interval of nothing", script(pendingAnswer, tokenAnswer), func(_ *oauth.Config, d *oauth.DeviceAuthorization) { d.Interval = 0 }, nil, "[1s 2s]"},
		{"network comes and goes", script(brokenAnswer, brokenAnswer, pendingAnswer, tokenAnswer), nil, nil, "[5s 15s 35s 40s]"},
		{"network stays away", script(brokenAnswer), nil, oauth.ErrExpiredCode, "[5s 15s 35s 1m15s 2m15s 3m15s 4m15s 5m15s 6m15s 7m15s 8m15s 9m15s 10m15s 11m15s 12m15s 13m15s 14m15s]"},
		{"server is down for a while", script(downAnswer, downAnswer, tokenAnswer), nil, nil, "[5s 15s 35s]"},
		{"server is broken", script(downAnswer), nil, oauth.ErrUnavailable, "[5s 15s 35s 1m15s 2m15s 3m15s 4m15s]"},
		{"denied", script(pendingAnswer, says(400, `{"error":"access_denied"}`)), nil, oauth.ErrAccessDenied, "[5s 10s]"},
		{"expired by the server", script(says(400, `{"error":"expired_token"}`)), nil, oauth.ErrExpiredCode, "[5s]"},
		{"expired by the clock", script(pendingAnswer), func(_ *oauth.Config, d *oauth.DeviceAuthorization) { d.ExpiresAt = time.Now().Add(12 * time.Second) }, oauth.ErrExpiredCode, "[5s 10s]"},
		{"expired before it began", script(pendingAnswer), func(_ *oauth.Config, d *oauth.DeviceAuthorization) { d.ExpiresAt = time.Now().Add(-time.Second) }, oauth.ErrExpiredCode, "[]"},
		{"spent", script(says(400, `{"error":"invalid_grant"}`)), nil, oauth.ErrInvalidGrant, "[5s]"},
		{"client", script(says(401, `{"error":"invalid_client"}`)), nil, oauth.ErrInvalidClient, "[5s]"},
		{"web page", script(says(200, `<html>`)), nil, oauth.ErrBadResponse, "[5s]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tokens, at, err := polled(t, test.script, test.change)
			if !errors.Is(err, test.want) || (err == nil) != (tokens != nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if fmt.Sprint(at) != test.at {
				t.Errorf("polled at %v, want %s", at, test.at)
			}
			if tokens != nil && (tokens.AccessToken.Reveal() != "a" || fmt.Sprint(tokens.Scopes) != "[asked]") {
				t.Errorf("tokens = %v", tokens)
			}
		})
	}
}

// The JSON variant says "not yet" in its own ways.
func TestPollDeviceJSON(t *testing.T) {
	jsonDevice := func(c *oauth.Config, _ *oauth.DeviceAuthorization) { c.OAuth.DeviceTokenRequest = "json" }
	for _, answer := range []func() (*http.Response, error){
		pendingAnswer, says(200, `{"status":"pending"}`), says(404, `{"status":"PENDING"}`), says(202, ``), says(202, `{}`),
		says(428, `{"error":"authorization_pending"}`), says(200, `{"state":"authorization_pending"}`),
	} {
		_, at, err := polled(t, []func() (*http.Response, error){answer, tokenAnswer}, jsonDevice)
		if err != nil || len(at) != 2 {
			t.Errorf("polled at %v, %v", at, err)
		}
	}
	_, _, err := polled(t, []func() (*http.Response, error){says(200, `{"status":"pending"}`)}, nil)
	failureOf(t, err, oauth.ErrBadResponse) // the standard's variant knows no such thing
	_, _, err = polled(t, []func() (*http.Response, error){says(400, `{"status":"pending","error":"access_denied"}`)}, jsonDevice)
	failureOf(t, err, oauth.ErrAccessDenied)

	var got []recorded
	synctest.Test(t, func(t *testing.T) {
		c := recording(t, &got)
		c.Clock = time.Now
		c.OAuth, c.Client = &provider.OAuth{TokenURL: "https://a.example.test/token", DeviceTokenRequest: "json", TokenPath: "access_token"}, oauth.Client{}
		if _, err := c.PollDevice(t.Context(), &oauth.DeviceAuthorization{DeviceCode: secret.New("dc"), ExpiresAt: time.Now().Add(time.Minute)}); err != nil {
			t.Error(err)
		}
	})
	if len(got) != 1 || got[0].contentType != "application/json" || got[0].body != `{"device_code":"dc"}` {
		t.Errorf("got %+v", got)
	}
}

func TestPollDeviceRequest(t *testing.T) {
	var got []recorded
	synctest.Test(t, func(t *testing.T) {
		c := recording(t, &got)
		c.Clock, c.Client = time.Now, oauth.Client{ID: "id"}
		if _, err := c.PollDevice(t.Context(), &oauth.DeviceAuthorization{DeviceCode: secret.New("dc"), ExpiresAt: time.Now().Add(time.Minute)}); err != nil {
			t.Error(err)
		}
	})
	const want = "map[client_id:[id] device_code:[dc] grant_type:[urn:ietf:params:oauth:grant-type:device_code]]"
	if len(got) != 1 || canonical(t, got[0].contentType, got[0].body) != want {
		t.Errorf("got %+v", got)
	}
}

func TestPollDeviceCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := scripted(func(*http.Request) (*http.Response, error) { return pendingAnswer() })
		c.Clock = time.Now
		d := &oauth.DeviceAuthorization{DeviceCode: secret.New("dc"), ExpiresAt: time.Now().Add(time.Hour), Interval: 5 * time.Second}
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		if _, err := c.PollDevice(ctx, d); !errors.Is(err, oauth.ErrTimeout) {
			t.Errorf("got %v, want ErrTimeout", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(12*time.Second, cancel)
		_, err := c.PollDevice(ctx, d)
		if !errors.Is(err, oauth.ErrCancelled) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want ErrCancelled", err)
		}
		c = scripted(func(r *http.Request) (*http.Response, error) { // cancelled within a call
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		c.Clock = time.Now
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(7*time.Second, cancel)
		if _, err := c.PollDevice(ctx, d); !errors.Is(err, oauth.ErrCancelled) {
			t.Errorf("got %v, want ErrCancelled", err)
		}
	})
}

func TestBeginDevice(t *testing.T) {
	const ok = `"device_code":"dc","user_code":"AB-CD","verification_uri":"https://a.example.test/device"`
	for _, test := range []struct {
		name, body string
		interval   time.Duration
		life       time.Duration
		complete   string
	}{
		{"defaults", `{` + ok + `}`, 5 * time.Second, 900 * time.Second, ""},
		{"all", `{` + ok + `,"interval":7,"expires_in":60,"verification_uri_complete":"https://a.example.test/device?c=1"}`, 7 * time.Second, time.Minute, "https://a.example.test/device?c=1"},
		{"strings", `{` + ok + `,"interval":"7","expires_in":"60"}`, 7 * time.Second, time.Minute, ""},
		{"nonsense", `{` + ok + `,"interval":-7,"expires_in":"soon"}`, 5 * time.Second, 900 * time.Second, ""},
		{"too short and too long", `{` + ok + `,"interval":0.001,"expires_in":1e9}`, time.Second, time.Hour, ""},
		{"older spelling", `{"device_code":"dc","user_code":"AB-CD","verification_url":"https://a.example.test/device"}`, 5 * time.Second, 900 * time.Second, ""},
		{"complete URI that is a script", `{` + ok + `,"verification_uri_complete":"javascript:alert(1)"}`, 5 * time.Second, 900 * time.Second, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := offline(200, "application/json", test.body).BeginDevice(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if d.DeviceCode.Reveal() != "dc" || d.UserCode != "AB-CD" || d.VerificationURI != "https://a.example.test/device" {
				t.Errorf("got %+v", d)
			}
			if d.Interval != test.interval || d.ExpiresAt.Sub(now) != test.life || d.VerificationURIComplete != test.complete {
				t.Errorf("got %+v, want %v, %v, %q", d, test.interval, test.life, test.complete)
			}
		})
	}
	for name, body := range map[string]string{
		"no device code":       `{"user_code":"u","verification_uri":"https://a.example.test"}`,
		"no user code":         `{"device_code":"d","verification_uri":"https://a.example.test"}`,
		"user code of escapes": `{"device_code":"d","user_code":"\u001b[2J","verification_uri":"https://a.example.test"}`,
		"long user code":       `{"device_code":"d","user_code":"` + strings.Repeat("u", 100) + `","verification_uri":"https://a.example.test"}`,
		"no URI":               `{"device_code":"d","user_code":"u"}`,
		"file URI":             `{"device_code":"d","user_code":"u","verification_uri":"file:///etc/passwd"}`,
		"plain http":           `{"device_code":"d","user_code":"u","verification_uri":"http://a.example.test"}`,
		"URI with user info":   `{"device_code":"d","user_code":"u","verification_uri":"https://a@b.example.test"}`,
		"web page":             `<html>`,
	} {
		_, err := offline(200, "application/json", body).BeginDevice(t.Context())
		if !errors.Is(err, oauth.ErrBadResponse) {
			t.Errorf("%s: %v, want ErrBadResponse", name, err)
		}
	}
	_, err := offline(200, "application/json", `{"error":"device_flow_disabled"}`).BeginDevice(t.Context())
	failureOf(t, err, oauth.ErrRejected)
	c := offline(200, "", "")
	c.OAuth.DeviceAuthorizationURL = ""
	_, err = c.BeginDevice(t.Context())
	failureOf(t, err, oauth.ErrUnsupported)
}
