package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
)

// Result is what a callback's page has to say. All of it is plain text that a page must escape: Detail
// may hold a provider's own words.
type Result struct {
	OK     bool   // the login succeeded
	Status int    // HTTP status of the page
	Code   string // error code; "" when there is none
	Title  string
	Detail string
}

// The results that do not come from the login itself.
var (
	resultForeign = Result{
		Status: http.StatusBadRequest, Code: "wrong_state", Title: "This page belongs to no login",
		Detail: "The request does not match the login that is waiting. Start again from the terminal.",
	}
	resultAgain = Result{
		Status: http.StatusConflict, Code: "already_used", Title: "This login has already ended",
		Detail: "The answer was used before. You can close this window.",
	}
)

// resultOf tells the outcome of a login. An error that is not ours may hold anything and is not shown.
func resultOf(err error) Result {
	if err == nil {
		return Result{
			OK: true, Status: http.StatusOK, Title: "You are logged in",
			Detail: "You can close this window and return to the terminal.",
		}
	}
	r := Result{
		Status: http.StatusBadRequest, Code: "failed", Title: "The login failed",
		Detail: "The terminal says why.",
	}
	var e *Error
	if errors.As(err, &e) {
		r.Code = e.Code
		if e.Description != "" {
			r.Detail = e.Description
		}
	}
	if errors.Is(err, ErrAccessDenied) {
		r.Title = "Access was not granted"
	}
	return r
}

// show renders a result with the caller's page.
func (c *Callback) show(w http.ResponseWriter, r Result) {
	c.page(&statusWriter{ResponseWriter: w, status: r.Status}, r)
}

// statusWriter writes a result's status where a page does not write one of its own.
type statusWriter struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (w *statusWriter) WriteHeader(status int) {
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(w.status)
	}
	return w.ResponseWriter.Write(b)
}

// protect sets what every answer of the callback carries. The URL holds a code: it must not be cached,
// nor travel in a Referer, nor may another page frame or script this one.
func protect(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy",
		"default-src 'none'; style-src '"+styleHash+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Connection", "close") // one answer is all there is; the server can end at once
}

const style = `:root{color-scheme:light dark}body{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}`

// styleHash lets the page's own style through its Content-Security-Policy and no other.
var styleHash = func() string {
	sum := sha256.Sum256([]byte(style))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}()

var resultPage = template.Must(template.New("result").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>` + style + `</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
<p>{{.Detail}}</p>
{{with .Code}}<p><code>{{.}}</code></p>
{{end}}</main>
</body>
</html>
`))

// ResultPage is the page without any dressing: it loads nothing and works without scripts.
func ResultPage(w http.ResponseWriter, r Result) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(r.Status)
	_ = resultPage.Execute(w, r) // the browser may be gone
}
