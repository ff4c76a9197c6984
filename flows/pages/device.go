package pages

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"
)

const (
	maxCodeBytes = 64

	// maxLinkBytes is more than an authorization URL with as many scopes as a form takes.
	maxLinkBytes = 32 << 10
)

// Device is a login that is approved on another page, perhaps on another device
// (RFC 8628). UserCode and VerificationURI must be set.
type Device struct {
	UserCode        string
	VerificationURI string // https, or http on loopback

	// VerificationURIComplete has the code in it; "" when there is none. It is
	// linked in place of VerificationURI.
	VerificationURIComplete string

	ExpiresAt time.Time // zero: not shown
	Scopes    []string  // what is asked for; empty: not shown
}

// deviceView is what the device page shows.
type deviceView struct {
	Code     string
	Long     bool   // the code needs smaller type
	Link     string // where to go
	Address  string // where that is, in short
	Complete bool   // the link has the code in it
	Scopes   []string
	Left     string // how long the code is good; "" when that is not known
}

// ShowDevice shows a device code while the caller waits for its approval. The
// context that it returns is for that wait: it ends with ctx, when the user
// presses Cancel, with the cause [ErrCancelled], or with the server, with the
// cause [ErrClosed]. The caller calls stop when the wait is over.
func (s *Server) ShowDevice(ctx context.Context, d Device) (wait context.Context, stop func(), err error) {
	if link(d.VerificationURI) == "" || d.UserCode == "" || len(d.UserCode) > maxCodeBytes || !visible(d.UserCode) {
		return nil, nil, fmt.Errorf("show device code: %w: no usable code and address", ErrBadForm)
	}
	f := &form{
		draw: func(url.Values, problems) view { return s.drawDevice(d) },
		read: func(url.Values) problems { // only Cancel is on the page
			return problems{{Text: "There is nothing to send."}}
		},
		waits: true,
	}
	if err := s.pose(f); err != nil {
		return nil, nil, fmt.Errorf("show device code: %w", err)
	}
	wait, cancel := context.WithCancelCause(ctx)
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		cancel(s.await(wait, f))
	}()
	return wait, func() { f.end(context.Cause(ctx)); <-settled }, nil
}

func (s *Server) drawDevice(d Device) view {
	v := s.view("device", "Enter this code at "+clip(s.cfg.DisplayName, maxName))
	v.Device = &deviceView{
		Code: d.UserCode, Long: len(d.UserCode) > 12,
		Link: link(d.VerificationURI), Address: address(d.VerificationURI), Scopes: d.Scopes, Left: left(d.ExpiresAt),
	}
	if complete := link(d.VerificationURIComplete); complete != "" {
		v.Device.Link, v.Device.Complete = complete, true
	}
	return v
}

// left says how long a code is still good.
func left(until time.Time) string {
	if until.IsZero() {
		return ""
	}
	switch minutes := int(time.Until(until).Round(time.Minute) / time.Minute); {
	case minutes < 1:
		return "less than a minute"
	case minutes == 1:
		return "about a minute"
	default:
		return fmt.Sprintf("about %d minutes", minutes)
	}
}

// link returns a URL that a page may lead to, as it is; "" for any other: a
// provider's words must not make the browser run a script or open a file.
func link(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || len(raw) > maxLinkBytes || !visible(raw) || strings.Contains(raw, " ") {
		return ""
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return raw
	}
	return ""
}

// address is a link as one would type it: host and path.
func address(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return clip(u.Host+strings.TrimSuffix(u.EscapedPath(), "/"), maxName)
}
