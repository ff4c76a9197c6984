package pages_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"authsome/flows/pages"
)

func askKey(l *login) <-chan outcome[pages.KeyAnswer] {
	l.t.Helper()
	return asked(l, keyQuestion(l))
}

func keyQuestion(l *login) func(context.Context) (pages.KeyAnswer, error) {
	return func(ctx context.Context) (pages.KeyAnswer, error) { return l.AskKey(ctx, openAI) }
}

// accepted proves that a question survived what was done to it.
func accepted(t *testing.T, l *login, done <-chan outcome[pages.KeyAnswer]) {
	t.Helper()
	open(t, done)
	if res := l.post("key", canary); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("an honest form afterwards: status %d, want 303", res.StatusCode)
	}
	if got, err := result(t, done); err != nil || got.Key.Reveal() != canary {
		t.Errorf("answer %q, %v; want the key", got.Key.Reveal(), err)
	}
}

// headers are on every answer, whatever it is.
var headers = map[string]string{
	"Cache-Control":                "no-store",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
}

func checkHeaders(t *testing.T, a answer) {
	t.Helper()
	for name, want := range headers {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	csp := a.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "style-src 'sha256-", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("Content-Security-Policy %q lacks %s", csp, want)
		}
	}
	if strings.Contains(csp, "unsafe") {
		t.Errorf("Content-Security-Policy %q allows what is unsafe", csp)
	}
	if len(a.Cookies()) > 0 || a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("headers %v: want no cookie and no other origin allowed", a.Header)
	}
}

func TestRefusedGets(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	base, _ := url.Parse(l.URL())
	path := base.Path // /<token>/
	paths := map[string]int{
		"/": 404, "/favicon.ico": 404, "/robots.txt": 404, "/callback?code=x&state=y": 404,
		path[:len(path)-1]: 404, path[:len(path)-2] + "/": 404, path[:len(path)-1] + "A/": 404,
		path + "x": 404, path + "favicon.ico": 404, path + "../": 404, "/" + path: 404, strings.ToLower(path): 404,
		path + "wait": 404, path + "wait/": 404, path + "wait/x": 404, path + "wait/-1": 404, path + "wait/01": 404,
		path + "wait/1/": 404, path + "wait/99999999999999999999": 404, path + "1": 404,
		path: 200, path + "?utm=x": 200, path + "wait/0": 200,
	}
	for p, want := range paths {
		req := l.request(http.MethodGet, "", nil)
		req.URL.Opaque = "//" + base.Host + p // as it is
		res := l.send(req)
		if res.StatusCode != want {
			t.Errorf("GET %s: status %d, want %d", strings.ReplaceAll(p, token(l.Server), "<token>"), res.StatusCode, want)
		}
		checkHeaders(t, res)
		if want == 404 && (strings.Contains(res.body, "OpenAI") || strings.Contains(res.body, token(l.Server))) {
			t.Errorf("GET %s tells a stranger about the login: %s", p, res.body)
		}
	}
	accepted(t, l, done)
}

// The bound address is the only host there is: any other name that leads here
// was made to, by whoever owns the name.
func TestWrongHost(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	base, _ := url.Parse(l.URL())
	hosts := []string{"localhost:" + base.Port(), "127.0.0.1", "127.0.0.1:1", "attacker.example", "attacker.example:" + base.Port(), "[::1]:" + base.Port(), "127.1:" + base.Port(), "127.0.0.1.:" + base.Port()}
	for _, host := range hosts {
		for _, req := range []*http.Request{l.request(http.MethodGet, "", nil), l.request(http.MethodHead, "", nil), l.form(l.fill("key", canary))} {
			req.Host = host
			res := l.send(req)
			if res.StatusCode != http.StatusMisdirectedRequest || strings.Contains(res.body, "OpenAI") {
				t.Errorf("%s with Host %s: status %d, %q; want 421 and no word of the login", req.Method, host, res.StatusCode, res.body)
			}
			checkHeaders(t, res)
		}
	}
	if got := raw(t, base.Host, "GET "+base.Path+" HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 421") {
		t.Errorf("a request without Host: %.60q, want 421", got)
	}
	accepted(t, l, done)
}

// raw sends bytes and returns what comes back.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWrongMethod(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	for _, method := range []string{"PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
		res := l.send(l.request(method, "", nil))
		if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD, POST" {
			t.Errorf("%s: status %d, Allow %q; want 405 and what is allowed", method, res.StatusCode, res.Header.Get("Allow"))
		}
		checkHeaders(t, res)
	}
	req := l.form(l.fill("key", canary))
	req.URL.Path += "wait/0"
	if res := l.send(req); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST to a page that takes no forms: status %d, want 405", res.StatusCode)
	}
	if strings.Contains(l.log.String(), "BREW") {
		t.Errorf("the log repeats a stranger's word:\n%s", l.log)
	}
	accepted(t, l, done)
}

func TestHeadIsGetWithoutBody(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	for _, rest := range []string{"", "wait/0", "x"} {
		get, head := l.get(rest), l.send(l.request(http.MethodHead, rest, nil))
		if head.StatusCode != get.StatusCode || head.body != "" || head.Header.Get("Content-Type") != get.Header.Get("Content-Type") {
			t.Errorf("HEAD %q: %d %q %q, want what GET has (%d), without the body", rest, head.StatusCode, head.Header.Get("Content-Type"), head.body, get.StatusCode)
		}
		if rest != "x" && head.ContentLength != get.ContentLength {
			t.Errorf("HEAD %q: Content-Length %d, want %d", rest, head.ContentLength, get.ContentLength)
		}
		checkHeaders(t, head)
	}
	accepted(t, l, done)
}

func TestPagesAreNotEmbedded(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	for dest, want := range map[string]int{"iframe": 403, "frame": 403, "embed": 403, "object": 403, "image": 403, "script": 403, "style": 403, "empty": 403, "document": 200} {
		req := l.request(http.MethodGet, "", nil)
		req.Header.Set("Sec-Fetch-Dest", dest)
		if res := l.send(req); res.StatusCode != want {
			t.Errorf("GET for %s: status %d, want %d", dest, res.StatusCode, want)
		}
	}
	accepted(t, l, done)
}

func TestRefusedForms(t *testing.T) {
	t.Parallel()
	l := serve(t)
	done := askKey(l)
	other := serve(t)
	askKey(other)
	good := l.fill("key", canary)
	with := func(change func(h http.Header)) *http.Request {
		req := l.form(good)
		change(req.Header)
		return req
	}
	body := func(content string) *http.Request {
		req := l.form(nil)
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(content)), int64(len(content))
		return req
	}
	chunked := func(content string) *http.Request {
		req := body(content)
		req.ContentLength = -1
		return req
	}
	set := func(pairs ...string) func(http.Header) {
		return func(h http.Header) {
			h.Del("Origin")
			h.Del("Sec-Fetch-Site")
			for i := 0; i < len(pairs); i += 2 {
				h.Add(pairs[i], pairs[i+1])
			}
		}
	}
	kind := func(value string) func(http.Header) {
		return func(h http.Header) { h.Set("Content-Type", value) }
	}
	own := strings.TrimSuffix(l.URL(), "/"+token(l.Server)+"/")
	long := good.Encode() + "&pad=" + strings.Repeat("x", pages.MaxFormBytes)
	tests := []struct {
		name string
		req  *http.Request
		want int
		code string
	}{
		{"no origin at all", with(set()), 403, "cross_origin"},
		{"another origin", with(set("Origin", "https://attacker.example")), 403, "cross_origin"},
		{"another port", with(set("Origin", "http://127.0.0.1:1")), 403, "cross_origin"},
		{"another scheme", with(set("Origin", strings.Replace(own, "http", "https", 1))), 403, "cross_origin"},
		{"own origin, longer", with(set("Origin", own+".attacker.example")), 403, "cross_origin"},
		{"null and nothing else", with(set("Origin", "null")), 403, "cross_origin"},
		{"null, cross-site", with(set("Origin", "null", "Sec-Fetch-Site", "cross-site")), 403, "cross_origin"},
		{"own origin, cross-site", with(set("Origin", own, "Sec-Fetch-Site", "cross-site")), 403, "cross_origin"},
		{"own origin, same-site", with(set("Origin", own, "Sec-Fetch-Site", "same-site")), 403, "cross_origin"},
		{"own origin, none", with(set("Origin", own, "Sec-Fetch-Site", "none")), 403, "cross_origin"},
		{"another origin, same-origin", with(set("Origin", "https://attacker.example", "Sec-Fetch-Site", "same-origin")), 403, "cross_origin"},
		{"two origins", with(set("Origin", own, "Origin", "https://attacker.example")), 403, "cross_origin"},
		{"two sites", with(set("Origin", own, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site")), 403, "cross_origin"},
		{"text/plain", with(kind("text/plain")), 415, "wrong_content_type"},
		{"json", with(kind("application/json")), 415, "wrong_content_type"},
		{"multipart", with(kind("multipart/form-data; boundary=x")), 415, "wrong_content_type"},
		{"malformed type", with(kind("application/x-www-form-urlencoded; =")), 415, "wrong_content_type"},
		{"no type", with(func(h http.Header) { h.Del("Content-Type") }), 415, "wrong_content_type"},
		{"too long, announced", body(long), 413, "too_large"},
		{"too long, chunked", chunked(long), 413, "too_large"},
		{"bad escape", body(good.Encode() + "&x=%zz"), 400, "malformed"},
		{"semicolon", body(good.Encode() + ";x=y"), 400, "malformed"},
		{"key twice", body(good.Encode() + "&key=sk-another0"), 400, "malformed"},
		{"token twice", body(good.Encode() + "&csrf=x"), 400, "malformed"},
		{"empty", body(""), 403, "wrong_csrf_token"},
		{"no token", l.form(url.Values{"key": {canary}}), 403, "wrong_csrf_token"},
		{"empty token", l.form(url.Values{"key": {canary}, "csrf": {""}}), 403, "wrong_csrf_token"},
		{"wrong token", l.form(url.Values{"key": {canary}, "csrf": {strings.Repeat("A", 26)}}), 403, "wrong_csrf_token"},
		{"another login's token", l.form(url.Values{"key": {canary}, "csrf": {other.csrf()}}), 403, "wrong_csrf_token"},
		{"cancel without token", l.form(url.Values{"action": {"cancel"}}), 403, "wrong_csrf_token"},
		{"token in the address", func() *http.Request {
			req := l.form(url.Values{"key": {canary}})
			req.URL.RawQuery = "csrf=" + good.Get("csrf")
			return req
		}(), 403, "wrong_csrf_token"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := strings.Count(l.log.String(), "code="+test.code+" ")
			res := l.send(test.req)
			if res.StatusCode != test.want {
				t.Errorf("status %d, want %d", res.StatusCode, test.want)
			}
			checkHeaders(t, res)
			if after := strings.Count(l.log.String(), "code="+test.code+" "); after != before+1 {
				t.Errorf("the log has %d lines for %s, want %d:\n%s", after, test.code, before+1, l.log)
			}
			if strings.Contains(res.body, `name="csrf"`) {
				t.Error("a refusal gives away a form's token")
			}
		})
	}
	accepted(t, l, done)
}

// What the browsers of today and of yesterday send for a form of ours.
func TestHonestForms(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		"origin and fetch metadata": {"Origin", "own", "Sec-Fetch-Site", "same-origin"},
		"null, as no-referrer asks": {"Origin", "null", "Sec-Fetch-Site", "same-origin"},
		"fetch metadata alone":      {"Sec-Fetch-Site", "same-origin"},
		"origin alone":              {"Origin", "own"},
	}
	for name, pairs := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := serve(t)
			done := askKey(l)
			req := l.form(l.fill("key", canary))
			req.Header.Del("Origin")
			req.Header.Del("Sec-Fetch-Site")
			for i := 0; i < len(pairs); i += 2 {
				req.Header.Set(pairs[i], strings.ReplaceAll(pairs[i+1], "own", strings.TrimSuffix(l.URL(), "/"+token(l.Server)+"/")))
			}
			if res := l.send(req); res.StatusCode != http.StatusSeeOther {
				t.Fatalf("status %d, want 303", res.StatusCode)
			}
			if got, err := result(t, done); err != nil || got.Key.Reveal() != canary {
				t.Errorf("answer %q, %v; want the key", got.Key.Reveal(), err)
			}
		})
	}
}

func TestTheAddressCannotBeGuessed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 8 {
		l := serve(t)
		askKey(l)
		u, err := url.Parse(l.URL())
		if err != nil || u.Scheme != "http" || u.Hostname() != "127.0.0.1" || u.Port() == "0" {
			t.Fatalf("URL %s, %v; want http on 127.0.0.1", l.URL(), err)
		}
		for _, secret := range []string{token(l.Server), l.csrf()} {
			if len(secret) < 26 || seen[secret] { // base32: 5 bits each
				t.Errorf("token %q: want 128 bits that were not there before", secret)
			}
			seen[secret] = true
		}
	}
}
