//go:build linux

package main_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// authHost is where the origin's authorization server is.
const authHost = "auth.example.test"

// authServer is an authorization server that approves everything at once,
// except for what a script asks it to refuse: the scope "deny" is refused, and from
// the client "stubborn" no token is taken back. The clients in refusals get tokens
// that expire at once and this answer to a refresh; "mayfly" gets none to refresh
// with.
type authServer struct {
	mu        sync.Mutex
	challenge string          // of the last authorization
	serial    int             // of the last refresh token
	unspent   map[string]bool // refresh tokens
	polled    bool            // the device was asked for before
	revoked   map[string]bool // what was taken back
}

// ServeHTTP implements http.Handler.
func (s *authServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.ParseForm()
	switch r.URL.Path {
	case "/authorize":
		s.authorize(w, r)
	case "/device":
		s.polled = false
		answer(w, http.StatusOK, map[string]any{"device_code": "device-" + canary, "user_code": "ABCD-1234",
			"verification_uri": "https://" + authHost + "/go", "interval": 1, "expires_in": 60})
	case "/token":
		s.token(w, r)
	case "/register":
		answer(w, http.StatusCreated, map[string]any{"client_id": "registered", "token_endpoint_auth_method": "none"})
	case "/revoke":
		if r.Form.Get("client_id") == "stubborn" {
			answer(w, http.StatusServiceUnavailable, map[string]any{"error": "temporarily_unavailable"})
			return
		}
		if s.revoked == nil {
			s.revoked = make(map[string]bool)
		}
		s.revoked[r.Form.Get("token")] = true
	default:
		fmt.Fprintln(w, "enter your code")
	}
}

func (s *authServer) authorize(w http.ResponseWriter, r *http.Request) {
	back := url.Values{"state": {r.Form.Get("state")}}
	if strings.Contains(r.Form.Get("scope"), "deny") {
		back.Set("error", "access_denied")
	} else {
		s.challenge = r.Form.Get("code_challenge")
		back.Set("code", "code-"+canary)
	}
	http.Redirect(w, r, r.Form.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

var refusals = map[string]string{"short": "", "dead": "invalid_grant", "stale": "invalid_client", "down": "temporarily_unavailable", "mayfly": ""}

func (s *authServer) token(w http.ResponseWriter, r *http.Request) {
	f := r.Form
	fail := func(code string) { answer(w, http.StatusBadRequest, map[string]any{"error": code}) }
	switch f.Get("grant_type") {
	case "authorization_code":
		sum := sha256.Sum256([]byte(f.Get("code_verifier")))
		if f.Get("code") != "code-"+canary || base64.RawURLEncoding.EncodeToString(sum[:]) != s.challenge {
			fail("invalid_grant")
			return
		}
	case "client_credentials":
		if f.Get("client_secret") != "client-"+canary {
			fail("invalid_client")
			return
		}
	case "refresh_token":
		if code := refusals[f.Get("client_id")]; code != "" {
			fail(code)
			return
		}
		if !s.unspent[f.Get("refresh_token")] {
			fail("invalid_grant")
			return
		}
		delete(s.unspent, f.Get("refresh_token"))
	case "urn:ietf:params:oauth:grant-type:device_code":
		if !s.polled {
			s.polled = true
			fail("authorization_pending")
			return
		}
	default:
		fail("unsupported_grant_type")
		return
	}
	lives := 3600
	id := f.Get("client_id")
	if _, brief := refusals[id]; brief && f.Get("grant_type") != "refresh_token" {
		lives = 1
	}
	out := map[string]any{"access_token": canary, "token_type": "Bearer", "expires_in": lives}
	if f.Get("grant_type") != "client_credentials" && id != "mayfly" {
		s.serial++
		if s.unspent == nil {
			s.unspent = make(map[string]bool)
		}
		next := fmt.Sprintf("refresh-%d-%s", s.serial, canary)
		out["refresh_token"], s.unspent[next] = next, true
	}
	if scope := f.Get("scope"); scope != "" {
		out["scope"] = scope
	}
	answer(w, http.StatusOK, out)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
