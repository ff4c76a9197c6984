package pages

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"authsome/flows/oauth"
)

// A mark is the sign that a result page shows beside its title.
type mark string

const (
	markGood mark = "good"
	markBad  mark = "bad"
	markNote mark = "note" // neither: cancelled, ended, done before
)

// Result renders how an OAuth callback went. It is what [oauth.CallbackConfig]
// takes as Page.
func (s *Server) Result(w http.ResponseWriter, r oauth.Result) { ResultPage(s.cfg)(w, r) }

// ResultPage returns the page of an OAuth callback for a login that needs no other
// page, and so no server. Of cfg only what names the provider is used.
func ResultPage(cfg Config) func(http.ResponseWriter, oauth.Result) {
	return func(w http.ResponseWriter, r oauth.Result) {
		protect(w.Header())
		status := r.Status
		if status < 200 || status > 599 {
			status = http.StatusOK
		}
		write(w, false, status, cfg.outcome(r))
	}
}

// outcome is the page of a result. All that r says may be a provider's words:
// it is bounded here and escaped by the template.
func (cfg Config) outcome(r oauth.Result) view {
	v := cfg.view("result", clip(r.Title, maxTitle))
	v.Lead = clip(r.Detail, maxText)
	switch {
	case r.OK:
		v.Mark = markGood
	case r.Code == "access_denied" || r.Code == "cancelled":
		v.Mark, v.Next = markNote, cfg.command()
	case r.Code == "already_used" || r.Code == "already_done":
		v.Mark = markNote
	default:
		v.Mark, v.Code, v.Next = markBad, clip(r.Code, maxCodeBytes), cfg.command()
	}
	if v.Title == "" {
		v.Title = "The login has ended"
	}
	return v
}

// command is what starts the login again; "" when the provider's name is not
// known.
func (cfg Config) command() string {
	if cfg.Name == "" {
		return ""
	}
	command := "authsome login " + cfg.Name
	if cfg.Connection != "" {
		command += " --connection " + cfg.Connection
	}
	return clip(command, maxTitle)
}

// Finish shows how the login went, for a nil err that it succeeded, and closes
// the pages. Of an error only what is known to be fit for a page is shown: an
// [*oauth.Error], and whether it was cancelled.
func (s *Server) Finish(err error) error {
	r := oauth.Result{
		OK: true, Title: s.cfg.DisplayName + " is connected",
		Detail: "authsome now adds the credential to your requests. You can close this tab and return to the terminal.",
	}
	var known *oauth.Error
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled):
		r = resultCancelled
	case errors.As(err, &known):
		r = oauth.Result{Code: known.Code, Title: "The login failed", Detail: known.Description}
		if errors.Is(err, oauth.ErrAccessDenied) {
			r.Code, r.Title = "access_denied", "Access was not granted"
		}
	default:
		r = oauth.Result{Title: "The login failed"}
	}
	if r.Detail == "" {
		r.Detail = "The terminal says why."
	}
	s.mu.Lock()
	s.put(&page{final: true, draw: func() view { return s.cfg.outcome(r) }})
	s.mu.Unlock()
	return s.Close()
}

var resultCancelled = oauth.Result{Code: "cancelled", Title: "Login cancelled", Detail: "No connection was made. You can close this tab."}

// cancelled is the page after Cancel.
func (s *Server) cancelled() *page {
	return &page{final: true, draw: func() view { return s.cfg.outcome(resultCancelled) }}
}

// ended is the page of a login that went on, or ended, somewhere else.
func (s *Server) ended() *page {
	return &page{final: true, draw: func() view {
		v := s.cfg.view("result", "This login has ended")
		v.Lead, v.Mark = "The terminal says how it went. You can close this tab.", markNote
		return v
	}}
}

// Continue sends a browser that is waiting for the next page to a provider's
// page, so that a login stays in one tab; with none it has [Config.Open] open one,
// whose arguments do not show target. It reports whether it could: when there is
// no browser and no Open, or target is neither https nor loopback, the caller shows
// target.
func (s *Server) Continue(target string) bool {
	here := s.present()
	if link(target) == "" || !here && s.cfg.Open == nil {
		return false
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.put(&page{final: true, draw: func() view {
		v := s.view("continue", "Continue to "+clip(s.cfg.DisplayName, maxName))
		v.Lead = "Approve the login there, and you are done."
		v.Refresh, v.Current = "0; url="+target, target
		return v
	}})
	s.mu.Unlock()
	if !here {
		s.open(target)
	}
	return true
}

// loopback says whether a host is this machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}
