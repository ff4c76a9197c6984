package flows_test

import (
	"slices"
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	for _, test := range []struct {
		life, after time.Duration
		refreshed   bool
	}{
		{time.Hour, time.Hour - 301*time.Second, false},
		{time.Hour, time.Hour - 300*time.Second, true},
		{time.Hour, time.Hour, true},
		{time.Hour, 48 * time.Hour, true},
		{10 * time.Minute, 10*time.Minute - 301*time.Second, false},
		{10 * time.Minute, 10*time.Minute - 300*time.Second, true},
		{100 * time.Second, 49 * time.Second, false}, // half its life, or it would be renewed before every request
		{100 * time.Second, 50 * time.Second, true},
		{time.Second, 0, false},
		{0, 1000 * time.Hour, false}, // never expires
	} {
		a := newAuthority(t)
		a.life = test.life
		r := a.rig(nil)
		a.login(r)
		r.follow()
		before, events := r.get("acme", "").AccessToken, r.events()
		r.clock.Add(test.after)
		got, err := r.Credential(t.Context(), "acme", "default")
		if err != nil {
			t.Fatal(err)
		}
		want, wantCalls, wantEvents := text(before), []string(nil), []string{}
		if test.refreshed {
			want, wantCalls = a.family().access, []string{"refresh_token"}
			wantEvents = []string{"refresh.start acme/default ok", "refresh acme/default ok"}
		}
		if text(got) != want {
			t.Errorf("%v after a login for %v: got %s, want %s", test.after, test.life, text(got), want)
		}
		if calls := a.took(); !slices.Equal(calls, wantCalls) {
			t.Errorf("%v after a login for %v: calls %q, want %q", test.after, test.life, calls, wantCalls)
		}
		if got := events(); !slices.Equal(got, wantEvents) {
			t.Errorf("audit = %q, want %q", got, wantEvents)
		}
		fresh, err := r.Fresh(t.Context(), "acme", "")
		if err != nil || text(fresh.AccessToken) != want {
			t.Errorf("Fresh after Credential: %v, %v", fresh, err)
		}
	}
}
