package pages

import (
	"crypto/subtle"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.active++
	s.mu.Unlock()
	defer s.answered()
	protect(w.Header())
	rest, no := s.admit(r)
	switch {
	case no != nil:
		s.refuse(w, r, no)
	case rest == entrance:
		s.expect(0)
		w.Header().Set("Location", s.base())
		w.WriteHeader(http.StatusSeeOther)
	case r.Method == http.MethodPost:
		s.receive(w, r)
	default:
		s.show(w, r, rest)
	}
}

// answered notes that a request's answer has been written.
func (s *Server) answered() {
	s.mu.Lock()
	s.active--
	s.mu.Unlock()
	select {
	case s.stirred <- struct{}{}:
	default:
	}
}

// entrance stands for the path of a browser that we launched.
const entrance = "?"

// admit decides from a request's head whether it is ours to answer, and returns
// its path below the server's own. Whoever does not know the path learns
// nothing: not whose login this is, nor whether there is one.
func (s *Server) admit(r *http.Request) (rest string, no *refusal) {
	if r.Host != s.host { // a name that was rebound to loopback
		return "", refuseHost
	}
	token, rest, found := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if !found || subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
		if found && rest == "" {
			switch entered, spent := s.enter(r, token); {
			case entered:
				return entrance, nil
			case spent:
				return "", refuseEntered
			}
		}
		return "", refusePath
	}
	version, waits := strings.CutPrefix(rest, "wait/")
	if _, ok := parseWait(version); rest != "" && !(waits && ok) {
		return "", refusePath
	}
	switch {
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return rest, admitGet(r.Header)
	case r.Method == http.MethodPost && rest == "":
		return rest, s.admitPost(r.Header)
	}
	return "", refuseMethod
}

// admitGet lets a page be visited and not be embedded. A browser that does not
// say what it wants the page for (Sec-Fetch-Dest, since 2023 in all) is kept
// from embedding it by frame-ancestors.
func admitGet(h http.Header) *refusal {
	if dest := h.Get("Sec-Fetch-Dest"); dest != "" && dest != "document" {
		return refuseEmbed
	}
	return nil
}

// admitPost lets through what a form of ours sends. Because our pages are
// no-referrer, a browser gives "null" as the origin of their forms (Fetch,
// "append a request Origin header"), as it does for a sandboxed stranger's. So
// null counts only where Sec-Fetch-Site vouches for it, which no page can set.
func (s *Server) admitPost(h http.Header) *refusal {
	origins, sites := h.Values("Origin"), h.Values("Sec-Fetch-Site")
	if len(origins) > 1 || len(sites) > 1 {
		return refuseOrigin
	}
	vouched := len(sites) == 1 && sites[0] == "same-origin"
	if len(sites) == 1 && !vouched {
		return refuseOrigin
	}
	named := len(origins) == 1 && origins[0] == "http://"+s.host
	if !named && !(vouched && (len(origins) == 0 || origins[0] == "null")) {
		return refuseOrigin
	}
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return refuseType
	}
	return nil
}

// show answers with the current page, or, below wait/, with the one that comes
// after the named version.
func (s *Server) show(w http.ResponseWriter, r *http.Request, rest string) {
	s.mu.Lock()
	p := s.current
	s.due = time.Time{} // whoever was on the way has come
	s.mu.Unlock()
	if version, ok := strings.CutPrefix(rest, "wait/"); ok && r.Method == http.MethodGet {
		seen, _ := parseWait(version)
		if p = s.after(r, seen); p == nil {
			return // the browser left
		}
	}
	v := p.draw()
	v.Again = rest == waitRest(p.version)
	if p.waits {
		s.refresh(&v, p.version, refreshTime)
	}
	if p.waits && r.Method == http.MethodGet { // before the browser can be back
		s.expect(refreshTime)
	}
	write(w, r.Method == http.MethodHead, http.StatusOK, v)
}

// after waits until a page other than the seen one is current, at most
// holdTime, and returns the page that is current then; nil when the client is
// gone. A brief page is passed over when the next one comes within briefTime.
func (s *Server) after(r *http.Request, seen uint64) *page {
	hold, brief := time.NewTimer(s.hold), time.NewTimer(briefTime)
	defer hold.Stop()
	defer brief.Stop()
	held, early := true, true
	for {
		s.mu.Lock()
		p, changed := s.current, s.changed
		s.mu.Unlock()
		if !held || p.final || p.version != seen && !(p.brief && early) {
			return p
		}
		select {
		case <-changed:
		case <-hold.C:
			held = false
		case <-brief.C:
			early = false
		case <-r.Context().Done():
			return nil
		}
	}
}

// receive reads a form and passes it to the question that it answers.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) {
	values, no := readForm(w, r, s.body)
	if no != nil {
		s.refuse(w, r, no)
		return
	}
	f := s.formOf(values.Get(fieldToken))
	if f == nil {
		s.refuse(w, r, refuseToken)
		return
	}
	switch state, v := s.submit(f, values); state {
	case formSpent:
		s.refuseSpent(w, r, f)
	case formWrong:
		write(w, false, http.StatusUnprocessableEntity, v)
	case formTaken:
		s.follow(w, f)
	}
}

// readForm reads a body that holds each field at most once.
func readForm(w http.ResponseWriter, r *http.Request, limit time.Duration) (url.Values, *refusal) {
	// Errors mean a connection that has no deadlines, which no server of ours makes.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(limit))
	if r.ContentLength > MaxFormBytes {
		// A browser that is still sending when we answer and close shows a
		// broken connection in place of the answer.
		_, _ = io.CopyN(io.Discard, r.Body, 16*MaxFormBytes)
		return nil, refuseSize
	}
	body, no := readBody(http.MaxBytesReader(w, r.Body, MaxFormBytes))
	if no != nil {
		return nil, no
	}
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, refuseShape
	}
	for _, v := range values {
		if len(v) != 1 {
			return nil, refuseShape
		}
	}
	return values, nil
}
