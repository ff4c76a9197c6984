package pages

import "time"

// SetHold sets how long the request of a waiting page is held back. It is
// called before the first request.
func (s *Server) SetHold(d time.Duration) { s.hold = d }

// SetBodyTimeout sets how long a form may take to arrive. It is called before
// the first request.
func (s *Server) SetBodyTimeout(d time.Duration) { s.body = d }

// SetAnswerTime sets how long a form waits. It is called before the first form.
func (s *Server) SetAnswerTime(d time.Duration) { s.answer = d }

// Answering is how many requests are being answered.
func (s *Server) Answering() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// DisplayOn is Display on another system.
func DisplayOn(goos string, getenv func(string) string) bool { return display(goos, getenv) }

// Clip is how somebody's words are made fit for a page.
func Clip(s string, limit int) string { return clip(s, limit) }

// OwnedBy says whether a connection's client is a user's.
func OwnedBy(uid int, client, server string) bool { return ownedBy(uid, client, server) }
