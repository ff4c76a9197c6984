package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"unicode"
)

// The longest texts that are shown, in characters. They come from definitions
// and from providers.
const (
	maxName  = 80
	maxTitle = 120
	maxText  = 400
)

//go:embed templates/*.html templates/style.css
var files embed.FS

// style is the one style sheet. It stands in every page, and its hash in the
// Content-Security-Policy lets it through and no other.
var style = func() string {
	b, err := files.ReadFile("templates/style.css")
	if err != nil {
		panic(err) // it is embedded
	}
	return string(b)
}()

var policy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

var templates = template.Must(template.New("").
	Funcs(template.FuncMap{"style": func() template.CSS { return template.CSS(style) }}).
	ParseFS(files, "templates/*.html"))

// view is what a page's template is given. A secret is never part of it.
type view struct {
	Body       string // template of what stands in <main>
	Title      string
	Lead       string
	Provider   string
	Docs       string // link; "" when there is none
	Connection string
	Profile    string

	Refresh string // content of a meta refresh; "" for none
	Again   bool   // the browser shows this page already
	Mark    mark
	Code    string // of an error
	Next    string // command to run
	Current string // link to what goes on

	Action string // where forms are posted; "" without a form
	Token  string
	Wrong  problems

	Key    *keyView
	Client *clientView
	Site   *baseURLView
	Device *deviceView
}

// view starts a page with what all have in common.
func (cfg Config) view(body, title string) view {
	return view{
		Body: body, Title: clip(title, maxTitle), Provider: clip(cfg.DisplayName, maxName),
		Docs: link(cfg.Docs), Connection: clip(cfg.Connection, maxName), Profile: clip(cfg.Profile, maxName),
	}
}

func (s *Server) view(body, title string) view { return s.cfg.view(body, title) }

// protect sets what every answer carries. The address and the form's token are
// secrets of the login: they must not be cached, nor travel in a Referer, nor
// may another page frame this one or hold on to its window.
func protect(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// write renders a page. The answer has a length and leaves at once, so that it
// is complete although the server may end with it.
func write(w http.ResponseWriter, head bool, status int, v view) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, "page", v); err != nil {
		http.Error(w, "the page could not be drawn; see the terminal", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	if !head {
		_, _ = w.Write(b.Bytes()) // the browser may be gone
	}
	_ = http.NewResponseController(w).Flush()
}

// clip makes somebody's words fit for a page: one line of at most limit
// characters, without controls and marks that turn the direction of writing.
func clip(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r):
			return ' '
		case unicode.Is(unicode.Cf, r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}

// hostView is one entry of a host_url list in words.
type hostView struct{ Text, Note string }

// hostViews puts host_url entries in words.
func hostViews(hosts []string) []hostView {
	views := make([]hostView, 0, len(hosts))
	for _, host := range hosts {
		v := hostView{Text: host}
		if re, ok := strings.CutPrefix(host, "regex:"); ok {
			v = hostView{Text: re, Note: "(pattern)"}
		} else if rest, ok := strings.CutPrefix(host, "{base_url}"); ok {
			v = hostView{Text: rest, Note: "below the base URL"}
			if rest == "" {
				v = hostView{Text: "the base URL"}
			}
		}
		v.Text = clip(strings.TrimPrefix(v.Text, "https://"), maxTitle)
		views = append(views, v)
	}
	return views
}
