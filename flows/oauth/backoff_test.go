package oauth_test

import (
	"fmt"
	"testing"
	"time"

	"authsome/flows/oauth"
)

func TestNeedsRefresh(t *testing.T) {
	for _, test := range []struct {
		left    time.Duration // until the expiry
		needs   bool
		expired bool
	}{
		{time.Hour, false, false},
		{301 * time.Second, false, false},
		{300 * time.Second, true, false},
		{time.Second, true, false},
		{0, true, true},
		{-time.Hour, true, true},
	} {
		set := oauth.TokenSet{ExpiresAt: now.Add(test.left)}
		if got := set.NeedsRefresh(now, oauth.RefreshWindow); got != test.needs {
			t.Errorf("%v left: needs refresh = %v", test.left, got)
		}
		if got := oauth.Expired(set.ExpiresAt, now); got != test.expired {
			t.Errorf("%v left: expired = %v", test.left, got)
		}
	}
	if (&oauth.TokenSet{}).NeedsRefresh(now, oauth.RefreshWindow) || oauth.Expired(time.Time{}, now) {
		t.Error("a token without expiry expires")
	}
}

func TestBackoff(t *testing.T) {
	var b oauth.Backoff
	if !b.Ready(now) {
		t.Error("the first attempt is not allowed")
	}
	var pauses []time.Duration
	for range 9 {
		b = b.Failed(now, 0)
		pauses = append(pauses, b.Until.Sub(now))
	}
	if got, want := fmt.Sprint(pauses), "[1s 2s 4s 8s 16s 32s 1m0s 1m0s 1m0s]"; got != want {
		t.Errorf("pauses = %s, want %s", got, want)
	}
	if b.Ready(now.Add(59*time.Second)) || !b.Ready(now.Add(60*time.Second)) {
		t.Error("ready at the wrong time")
	}
	if b.Failures != 9 {
		t.Errorf("failures = %d", b.Failures)
	}
	if got := (oauth.Backoff{}).Failed(now, 5*time.Minute).Until.Sub(now); got != 5*time.Minute {
		t.Errorf("the provider asked for 5 minutes and gets %v", got)
	}
	if got := (oauth.Backoff{Failures: 1 << 40}).Failed(now, 0).Until.Sub(now); got != time.Minute {
		t.Errorf("after very many failures: %v", got)
	}
}
