//go:build linux

package main_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hostile is a token endpoint that answers as its client's id says: "first-X" with X
// at once, "later-X" with a token of one second and then with X.
type hostile struct {
	answers map[string]http.HandlerFunc

	mu    sync.Mutex
	known map[string]bool // guarded by mu; clients that have had their good token
}

// ServeHTTP implements http.Handler.
func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	id := r.Form.Get("client_id")
	when, name, _ := strings.Cut(id, "-")
	h.mu.Lock()
	good := when == "later" && !h.known[id]
	h.known[id] = true
	h.mu.Unlock()
	if good {
		answer(w, http.StatusOK, map[string]any{"access_token": canary, "expires_in": 1})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	h.answers[name](w, r)
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// A token endpoint that answers with anything but a token ends a login with exit
// code 4 and a refresh with 6, in one line that says what is wrong and holds no
// secret. What was stored stays.
func TestHostileTokenEndpoint(t *testing.T) {
	t.Parallel()
	var stolen atomic.Int32
	thief := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stolen.Add(1)
		answer(w, http.StatusOK, map[string]any{"access_token": canary})
	}))
	t.Cleanup(thief.Close)
	refused := map[string]string{ // what is said
		"error": "invalid_scope", "html": "web page", "redirect": "redirect", "large": "larger than", "bomb": "larger than", "nul": "characters",
		"crlf": "characters", "empty": "no access_token", "mac": "type mac", "list": "not a JSON object", "cut": "", "gateway": "HTTP 502", "twice": "twice",
	}
	h := &hostile{known: map[string]bool{}, answers: map[string]http.HandlerFunc{
		"error": says(200, `{"error":"invalid_scope","error_description":"<b>no</b>\u001b[31m `+canary+`","access_token":"`+canary+`"}`),
		"html":  says(200, "<!doctype html><title>Log in</title>"+canary),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL+"/?"+canary, http.StatusTemporaryRedirect)
		},
		"large": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"access_token":%q,"padding":"`, canary)
			for range 10 << 10 {
				w.Write(bytes.Repeat([]byte("a"), 1<<10))
			}
			io.WriteString(w, `"}`)
		},
		"bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(bytes.Repeat([]byte(" "), 20<<20))
			z.Close()
		},
		"nul":     says(200, `{"access_token":"`+canary+`\u0000"}`),
		"crlf":    says(200, `{"access_token":"`+canary+`\r\nX-Evil: 1"}`),
		"empty":   says(200, `{"access_token":"","refresh_token":"`+canary+`"}`),
		"mac":     says(200, `{"access_token":"`+canary+`","token_type":"mac"}`),
		"list":    says(200, `["`+canary+`"]`),
		"twice":   says(200, `{"access_token":"`+canary+`","access_token":"x"}`),
		"gateway": says(502, "<html>"+canary),
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"access_token":"`+canary)
		},
		"silent":   says(200, `{"access_token":"`+canary+`"}`),
		"negative": says(200, `{"access_token":"`+canary+`","expires_in":-5}`),
		"absurd":   says(200, `{"access_token":"`+canary+`","expires_in":1e300}`),
		"string":   says(200, `{"access_token":"`+canary+`","expires_in":"7200"}`),
	}}
	accepted := map[string]bool{"silent": false, "negative": false, "absurd": false, "string": true} // whether it expires
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	w := newWorld(t)
	w.trust(server)
	w.register(`{"schema_version": 1, "name": "acme", "display_name": "Acme", "auth_type": "oauth2", "flow": "client_credentials", "host_url": "api.example.test",
		"oauth": {"token_url": "` + server.URL + `/token"}, "client": {"client_id_env": "ACME_ID", "client_secret_env": "ACME_SECRET"},
		"export": {"env": {"access_token": "ACME_TOKEN"}}}`)
	login := func(id string) result {
		return w.run(w.command(nil, "login", "acme", "--connection", id, "--client-id", id, "--secret-file", "-"), "secret-"+canary)
	}
	check := func(name string, got result, code int) {
		t.Helper()
		for _, problem := range checkOutput([]string{"login"}, got.code, "", got.stderr) {
			t.Errorf("%s: %s: %s", name, problem, got.stderr)
		}
		if got.code != code || !strings.Contains(got.stderr, refused[name]) || strings.Contains(got.stderr, "Evil") || len(got.stderr) > 1000 {
			t.Errorf("%s: exit %d, want %d and %q: %s", name, got.code, code, refused[name], got.stderr)
		}
	}
	for name := range h.answers {
		if got := login("later-" + name); got.code != 0 {
			t.Fatalf("login: exit %d: %s", got.code, got.stderr)
		}
	}
	time.Sleep(1100 * time.Millisecond) // the tokens' only second
	for name := range refused {
		check(name, login("first-"+name), 4)
		check(name, w.authsome("export", "acme", "--connection", "later-"+name), 6)
		if got := w.authsome("get", "acme", "--connection", "first-"+name); got.code != 5 {
			t.Errorf("%s: something is stored: exit %d", name, got.code)
		}
		if got := w.must("get", "acme", "--connection", "later-"+name, "--json"); field(t, got, "status") != "expired" {
			t.Errorf("%s: the connection is %v, want expired: it was not refused for good", name, field(t, got, "status"))
		}
	}
	for name, expires := range accepted {
		if got := w.authsome("export", "acme", "--connection", "later-"+name); got.code != 0 {
			t.Errorf("%s: exit %d: %s", name, got.code, got.stderr)
		}
		got := w.must("get", "acme", "--connection", "later-"+name, "--json")
		if at, _ := field(t, got, "expires_at").(string); (at != "") != expires || field(t, got, "status") != "connected" {
			t.Errorf("%s: status %v, expires %q", name, field(t, got, "status"), at)
		}
	}
	if n := stolen.Load(); n > 0 {
		t.Errorf("%d requests followed a redirect", n)
	}
	w.noSecret()
}
