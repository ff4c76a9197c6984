package pages

import (
	"io"
	"log/slog"
	"net/http"
	"time"
)

// A refusal is a request that is not answered with what it asked for. Text is
// what a person reads who meant no harm.
type refusal struct {
	status int
	code   string // for the log
	title  string
	text   string
	public bool // to whoever does not know the path: no page, only the code's words
}

// The refusals, all of them.
var (
	refuseHost    = &refusal{status: http.StatusMisdirectedRequest, code: "wrong_host", title: "unknown host", public: true}
	refusePath    = &refusal{status: http.StatusNotFound, code: "wrong_path", title: "not found", public: true}
	refuseEntered = &refusal{status: http.StatusGone, code: "entered", title: "this address was good for one visit; open the one that the terminal shows", public: true}
	refuseEmbed   = &refusal{status: http.StatusForbidden, code: "embedded", title: "open this address in a tab of its own", public: true}
	refuseMethod  = &refusal{status: http.StatusMethodNotAllowed, code: "wrong_method", title: "only GET, HEAD and the page's own forms", public: true}
	refuseOrigin  = &refusal{
		status: http.StatusForbidden, code: "cross_origin", title: "This form came from another page",
		text: "Nothing was taken from it. If you sent it from the login page, your browser did not say so: update it, or log in from the terminal with --no-browser.",
	}
	refuseType = &refusal{
		status: http.StatusUnsupportedMediaType, code: "wrong_content_type", title: "This is not a form of the login page",
		text: "Nothing was taken from it.",
	}
	refuseSize = &refusal{
		status: http.StatusRequestEntityTooLarge, code: "too_large", title: "That is too long",
		text: "The form takes 64 KiB. Nothing was taken from it.",
	}
	refuseShape = &refusal{
		status: http.StatusBadRequest, code: "malformed", title: "The form could not be read",
		text: "Nothing was taken from it. Go back and send it again.",
	}
	refuseToken = &refusal{
		status: http.StatusForbidden, code: "wrong_csrf_token", title: "This form belongs to no login",
		text: "Nothing was taken from it. Open the login page again.",
	}
	refuseSpent = &refusal{
		status: http.StatusConflict, code: "already_done", title: "This form is already done",
		text: "It was sent or cancelled before, and that is what counts. Nothing was taken from it this time.",
	}
)

// refuse answers with a refusal.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	s.note(r, no)
	if no.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, HEAD, POST")
	}
	if r.Method == http.MethodPost {
		w.Header().Set("Connection", "close") // the body may not have been read
	}
	if no.public {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(no.status)
		if r.Method != http.MethodHead {
			_, _ = io.WriteString(w, no.title+"\n") // the client may be gone
		}
		return
	}
	write(w, false, no.status, s.explain(no))
}

// refuseSpent answers a form that comes after the one that counts. A second
// click on its button takes the answer to the first from the browser, so the
// page goes on to where that one led.
func (s *Server) refuseSpent(w http.ResponseWriter, r *http.Request, f *form) {
	const readTime = 2 * time.Second
	s.note(r, refuseSpent)
	v := s.explain(refuseSpent)
	s.refresh(&v, f.version, readTime)
	s.expect(readTime)
	write(w, false, refuseSpent.status, v)
}

// explain is the page of a refusal.
func (s *Server) explain(no *refusal) view {
	v := s.view("result", no.title)
	v.Lead, v.Mark, v.Current = no.text, markNote, s.base()
	return v
}

// note logs a refusal's code, and of the request only the method: its address
// and its body are secrets of the login.
func (s *Server) note(r *http.Request, no *refusal) {
	s.cfg.Logger.Debug("login page request refused",
		slog.String("code", no.code), slog.Int("status", no.status), slog.String("method", method(r)))
}

// method is a request's method when it is a known one: a log line is no place
// for a stranger's words.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}
