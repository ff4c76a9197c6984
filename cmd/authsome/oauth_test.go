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
// except for what a script asks it to refuse: the scope "deny" is refused, the
// client "short" gets tokens that expire at once, the client "dead" gets no
// second token, and from the client "stubborn" no token is taken back.
type authServer struct {
	mu        sync.Mutex
	challenge string          // of the last authorization
	refresh   int             // number of the refresh token that is good
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
		if f.Get("client_id") == "dead" || f.Get("refresh_token") != s.refreshToken() {
			fail("invalid_grant")
			return
		}
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
	s.refresh++
	lives := 3600
	if id := f.Get("client_id"); (id == "short" || id == "dead") && f.Get("grant_type") != "refresh_token" {
		lives = 1
	}
	out := map[string]any{"access_token": canary, "token_type": "Bearer", "expires_in": lives}
	if f.Get("grant_type") != "client_credentials" {
		out["refresh_token"] = s.refreshToken()
	}
	if scope := f.Get("scope"); scope != "" {
		out["scope"] = scope
	}
	answer(w, http.StatusOK, out)
}

func (s *authServer) refreshToken() string { return fmt.Sprintf("refresh-%d-%s", s.refresh, canary) }

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
