package pages

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// MaxFormBytes is the longest form that is read.
	MaxFormBytes = 64 << 10

	maxHeaderBytes = 32 << 10
	headerTimeout  = 10 * time.Second
	bodyTimeout    = 10 * time.Second // loopback: only somebody who does not mean to finish takes longer
	idleTimeout    = 60 * time.Second

	// holdTime is how long a waiting page's request is held back: less than the
	// 60 s after which Safari gives up on an answer.
	holdTime = 45 * time.Second

	// briefTime is how long the page between two others is spared the browser.
	briefTime = time.Second

	// comebackTime is how long a browser may take to follow a redirect or a
	// refresh that is due.
	comebackTime = 2 * time.Second

	// lingerTime bounds how long Close waits for the last page to be fetched.
	lingerTime = 4 * time.Second

	// answerTime is how long a form waits for somebody to send it: making a client
	// or a key with a provider takes minutes, and nobody looks for an hour.
	answerTime = 30 * time.Minute
)

var (
	// ErrCancelled is returned when the user pressed Cancel. It matches
	// context.Canceled, like every other way of calling a login off.
	ErrCancelled = fmt.Errorf("cancelled in the browser: %w", context.Canceled)

	// ErrClosed is returned when the server was closed while it was asking, and
	// by everything that needs an open server afterwards.
	ErrClosed = errors.New("login pages are closed")

	// ErrUnanswered is returned when nobody sent a form for half an hour.
	ErrUnanswered = errors.New("nobody answered in the browser for half an hour")

	// ErrBadForm is returned when a form cannot be shown as it is described.
	ErrBadForm = errors.New("bad form")
)

// Config says whose login is served. DisplayName must be set.
type Config struct {
	// Name is the provider's name in commands; "" leaves commands out of the
	// pages.
	Name string

	// DisplayName is the provider's name in prose.
	DisplayName string

	// Docs is the page where one gets a credential. It is linked when it is
	// https.
	Docs string

	// Connection and Profile are shown when they are set.
	Connection string
	Profile    string

	// Open opens a browser at once, an address that is good for one visit and so
	// fit for the arguments of a program. url leads to the same page, as often as
	// one likes: it is for the user's own screen, in case that no browser shows.
	// Open is called on its own goroutine when there is something to see, and again
	// by [Server.Continue] when the browser has left; telling the user what to do
	// when it fails is up to it. ctx ends with the server. nil: the caller shows
	// [Server.URL].
	Open func(ctx context.Context, once, url string)

	// Logger gets refusals at debug level. nil: discarded.
	Logger *slog.Logger
}

// Server serves the pages of one login. One question is asked at a time; its
// methods may be called from several goroutines.
type Server struct {
	cfg     Config
	host    string        // what the Host header must be
	token   string        // the path's unguessable segment
	hold    time.Duration // holdTime
	body    time.Duration // bodyTimeout
	answer  time.Duration // answerTime
	http    *http.Server
	life    context.Context // ends with the server
	end     context.CancelFunc
	served  chan struct{} // closed when the listener is no longer served
	stirred chan struct{} // holds one: a request has been answered
	closing sync.Once
	opening sync.Once

	mu      sync.Mutex
	current *page         // guarded by mu
	changed chan struct{} // guarded by mu; closed and replaced with current
	forms   []*form       // guarded by mu; every form that was ever shown
	active  int           // guarded by mu; requests being answered
	once    string        // guarded by mu; where a launched browser may enter, "" when none is on its way
	spent   []string      // guarded by mu; where some did
	due     time.Time     // guarded by mu; until when a browser is expected to come back
	closed  bool          // guarded by mu; current does not change any more
}

// Serve starts the pages of one login on a free port of 127.0.0.1. They end
// with ctx, or with [Server.Close] or [Server.Finish].
func Serve(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.DisplayName == "" {
		return nil, fmt.Errorf("serve login pages: %w: DisplayName is required", ErrBadForm)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("serve login pages: %w", context.Cause(ctx))
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve login pages: %w", err)
	}
	s := &Server{
		cfg: cfg, host: ln.Addr().String(), token: rand.Text() /* 130 bits */, hold: holdTime, body: bodyTimeout, answer: answerTime,
		served: make(chan struct{}), stirred: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	s.current = s.waiting()
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       log.New(io.Discard, "", 0), // it quotes requests
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(ln) // ends with Close
	}()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	context.AfterFunc(s.life, func() { stop() })
	return s, nil
}

// URL is where the browser finds the current page. Whoever knows it can answer
// the questions that are asked there, so it is for the user's own screen and
// browser only.
func (s *Server) URL() string { return "http://" + s.host + s.base() }

// base is the path below which everything lives.
func (s *Server) base() string { return "/" + s.token + "/" }

// Close ends the pages. A browser that is waiting for the next page is given a
// last one; when it is known to be on its way, Close waits for it for a moment,
// at most 4 s. Close may be called more than once.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		if !s.current.final {
			s.put(s.ended())
		}
		s.closed = true
		forms := s.forms
		s.mu.Unlock()
		for _, f := range forms {
			f.end(ErrClosed)
		}
		s.linger()
		_ = s.http.Close()
		<-s.served
		s.end()
	})
	return nil
}

// linger waits until no request is being answered and no browser is on its way.
func (s *Server) linger() {
	limit := time.NewTimer(lingerTime)
	defer limit.Stop()
	for {
		s.mu.Lock()
		active, left := s.active, time.Until(s.due)
		s.mu.Unlock()
		if active == 0 && left <= 0 {
			return
		}
		pause := lingerTime
		if left > 0 {
			pause = left
		}
		select {
		case <-s.stirred:
		case <-time.After(pause):
		case <-limit.C:
			return
		}
	}
}
