package pages

import (
	"strconv"
	"time"
)

// A page is what the browser is shown at one moment. It does not change once it
// is current.
type page struct {
	version uint64 // grows with every page of a server
	draw    func() view
	waits   bool // the browser is to come back for the next page
	brief   bool // the next page is expected at once, and better waited for
	final   bool // nothing follows unless the caller says so
}

// put makes p the current page, gives it the next version and wakes everybody
// who waits for it. The caller holds mu. It does nothing once the server is
// closed.
func (s *Server) put(p *page) {
	if s.closed {
		return
	}
	p.version = s.current.version + 1
	s.current = p
	close(s.changed)
	s.changed = make(chan struct{})
}

// swap makes p the current page in place of the page with the given version,
// and leaves any other page alone.
func (s *Server) swap(version uint64, p *page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.version == version {
		s.put(p)
	}
}

// waiting is the page between two others.
func (s *Server) waiting() *page {
	return &page{waits: true, brief: true, draw: func() view {
		v := s.view("wait", "One moment")
		v.Lead = "Working on your " + v.Provider + " login. This page continues by itself."
		return v
	}}
}

// waitPath is where the page that follows a version is to be had.
func (s *Server) waitPath(version uint64) string {
	return s.base() + waitRest(version)
}

func waitRest(version uint64) string { return "wait/" + strconv.FormatUint(version, 10) }

// parseWait reads the version out of the rest of a wait path.
func parseWait(rest string) (uint64, bool) {
	n, err := strconv.ParseUint(rest, 10, 64)
	return n, err == nil && rest == strconv.FormatUint(n, 10)
}

// refreshTime is after how long a page that waits asks for the next one: soon
// enough for a browser to leave the page out of its history.
const refreshTime = time.Second

// refresh makes a page come back for what follows a version.
func (s *Server) refresh(v *view, version uint64, after time.Duration) {
	v.Refresh = strconv.Itoa(int(after/time.Second)) + "; url=" + s.waitPath(version)
}

// expect notes that a browser has been told to come back.
func (s *Server) expect(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = time.Now().Add(after + comebackTime)
}

// present says whether a browser is showing a page that goes on by itself.
func (s *Server) present() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active > 0 || time.Now().Before(s.due)
}
