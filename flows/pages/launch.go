package pages

import (
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"os"
	"slices"
)

// A browser is launched with an address in its arguments, which other users of
// the machine can read. So that address is good for one visit, of our own user
// where that can be told, and leads to where the pages are.

// launch opens the browser, the first time that there is something to see.
func (s *Server) launch() {
	s.opening.Do(func() { s.open(s.URL()) })
}

// open opens a browser at the current page. url is what the page is known as to a
// person.
func (s *Server) open(url string) {
	if s.cfg.Open == nil {
		return
	}
	once := rand.Text()
	s.mu.Lock()
	s.once = once
	s.mu.Unlock()
	go s.cfg.Open(s.life, "http://"+s.host+"/"+once+"/", url)
}

// enter takes the segment of a visit's path as that of a browser that we launched.
// spent says that it was one, and has been used.
func (s *Server) enter(r *http.Request, token string) (entered, spent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.spent, token) {
		return false, true
	}
	if s.once == "" || subtle.ConstantTimeCompare([]byte(s.once), []byte(token)) != 1 {
		return false, false
	}
	if r.Method != http.MethodGet || admitGet(r.Header) != nil || !ownedBy(os.Getuid(), r.RemoteAddr, s.host) {
		return false, false
	}
	s.once, s.spent = "", append(s.spent, token)
	return true, false
}
