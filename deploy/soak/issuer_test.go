//go:build linux

package soak_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// canary begins every secret, so that one look finds any of them.
const canary = "canary-4f1c8e2b-not-for-anybody-"

// issuer is an authorization server that approves at once. Refresh tokens are
// used once: whoever sends a spent one has stolen it, for all the server knows,
// and its whole family is revoked (RFC 9700 section 4.14.2).
type issuer struct {
	life time.Duration // of access tokens

	mu      sync.Mutex // guards all below
	serial  int
	pending map[string]code      // authorization codes
	refresh map[string]*family   // by refresh token, spent ones too
	access  map[string]*family   // by access token
	expires map[string]time.Time // of access tokens
	grants  int                  // refreshes and client credentials that were granted
	replays int                  // spent refresh tokens that were sent
	late    int                  // access tokens that arrived after their time

	fault  fault         // what is wrong at the moment
	mended chan struct{} // closed when a fault ends
}

type code struct{ challenge, redirect string }

// family are the tokens that come from one login.
type family struct {
	current string // the refresh token that is good
	revoked bool
}

// fault is a way in which a token endpoint does not work.
type fault int

const (
	works        fault = iota
	answers500         // an internal error
	answersTrash       // 200, and something that is no JSON
	hangs              // nothing, until it is mended
)

func newIssuer(life time.Duration) *issuer {
	return &issuer{life: life, pending: map[string]code{}, refresh: map[string]*family{},
		access: map[string]*family{}, expires: map[string]time.Time{}, mended: make(chan struct{})}
}

// set changes how the token endpoint works. Whoever hangs is answered by what
// it does now.
func (s *issuer) set(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	close(s.mended)
	s.mended = make(chan struct{})
}

// ServeHTTP implements http.Handler.
func (s *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	switch r.URL.Path {
	case "/authorize":
		s.authorize(w, r)
	case "/token":
		s.token(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (s *issuer) authorize(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	name := fmt.Sprintf("%scode-%d", canary, s.serial)
	s.pending[name] = code{r.Form.Get("code_challenge"), r.Form.Get("redirect_uri")}
	back := url.Values{"state": {r.Form.Get("state")}, "code": {name}}
	http.Redirect(w, r, r.Form.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (s *issuer) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	for s.fault == hangs {
		mended := s.mended
		s.mu.Unlock()
		select {
		case <-mended:
		case <-r.Context().Done():
			return
		}
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	switch s.fault {
	case answers500:
		http.Error(w, "something went wrong", http.StatusInternalServerError)
		return
	case answersTrash:
		fmt.Fprint(w, "<html>Under maintenance</html>")
		return
	}
	f, problem := s.granted(r.Form)
	if problem != "" {
		answerJSON(w, http.StatusBadRequest, map[string]any{"error": problem})
		return
	}
	answerJSON(w, http.StatusOK, s.issue(f, r.Form.Get("grant_type") != "client_credentials"))
}

// granted finds the family that a request is for. The caller holds mu.
func (s *issuer) granted(form url.Values) (f *family, problem string) {
	switch form.Get("grant_type") {
	case "authorization_code":
		c, ok := s.pending[form.Get("code")]
		delete(s.pending, form.Get("code"))
		sum := sha256.Sum256([]byte(form.Get("code_verifier")))
		if !ok || c.challenge != base64.RawURLEncoding.EncodeToString(sum[:]) || c.redirect != form.Get("redirect_uri") {
			return nil, "invalid_grant"
		}
		return &family{}, ""
	case "refresh_token":
		f := s.refresh[form.Get("refresh_token")]
		if f == nil || f.revoked {
			return nil, "invalid_grant"
		}
		if f.current != form.Get("refresh_token") {
			f.revoked = true
			s.replays++
			return nil, "invalid_grant"
		}
		s.grants++
		return f, ""
	case "client_credentials":
		if form.Get("client_secret") != canary+"client" {
			return nil, "invalid_client"
		}
		s.grants++
		return &family{}, ""
	}
	return nil, "unsupported_grant_type"
}

// issue makes new tokens. The caller holds mu.
func (s *issuer) issue(f *family, refreshable bool) map[string]any {
	s.serial++
	for token, at := range s.expires { // long dead ones are forgotten
		if time.Since(at) > 2*time.Minute {
			delete(s.expires, token)
			delete(s.access, token)
		}
	}
	access := fmt.Sprintf("%saccess-%d", canary, s.serial)
	s.access[access] = f
	s.expires[access] = time.Now().Add(s.life)
	out := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": int(s.life.Seconds())}
	if refreshable {
		f.current = fmt.Sprintf("%srefresh-%d", canary, s.serial)
		s.refresh[f.current] = f
		out["refresh_token"] = f.current
	}
	return out
}

// accepts reports whether an origin takes an access token. One that comes late
// is taken and counted: on a busy machine a request may be on its way for
// longer than its token lives, but not for half a minute.
func (s *issuer) accepts(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.access[token]
	if f == nil || f.revoked {
		return false
	}
	over := time.Since(s.expires[token])
	if over > 0 {
		s.late++
	}
	return over < 30*time.Second
}

// counts returns how much was granted and how often a spent token came.
func (s *issuer) counts() (grants, replays, late int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grants, s.replays, s.late
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
