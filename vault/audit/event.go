package audit

import (
	"encoding/json"
	"time"
)

// Outcomes of an [Event].
const (
	OK     = "ok"
	Denied = "denied"
	Failed = "failed"
)

// An Event is one line of the log. Only Event is required; an empty field is
// left out of the line.
type Event struct {
	Time time.Time // UTC; zero means now

	Event      string // login, logout, inject, refuse, refresh, rekey, …
	Profile    string // empty means Config.Profile
	Provider   string
	Connection string
	Outcome    string // OK, Denied or Failed; empty means OK
	Code       string // the refusal or error code
	Detail     string // short and machine-made; never a secret

	// Of a request: inject and refuse.
	Method, Scheme, Host string
	Port                 int
	Path                 string // without the query string, which may hold a secret
	Status               int    // what the client was answered
	BytesIn, BytesOut    int64  // bodies, as the client sent and received them
	Duration             time.Duration
	Protocol             string // http/1.1, h2, websocket

	ExitCode *int // of run.end

	Actor Actor // set from Config when written, and from the line when read
}

// An Actor says which process acted.
type Actor struct {
	PID int    `json:"pid"`
	UID int    `json:"uid"`           // -1 where the system has none
	Run string `json:"run,omitempty"` // identifies one run of a child
}

// MarshalJSON returns the event as its line shows it, without the chain.
func (e Event) MarshalJSON() ([]byte, error) {
	return append(appendEvent(nil, &e), '}'), nil
}

// UnmarshalJSON reads a line. Unknown fields are ignored.
func (e *Event) UnmarshalJSON(data []byte) error {
	var w wireEvent
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*e = w.event()
	return nil
}

// wireEvent is the shape of a line, for reading. Writing is by appendEvent,
// which allocates nothing; a test holds the two together.
type wireEvent struct {
	Time       time.Time `json:"time"`
	Event      string    `json:"event"`
	Profile    string    `json:"profile"`
	Provider   string    `json:"provider"`
	Connection string    `json:"connection"`
	Actor      Actor     `json:"actor"`
	Outcome    string    `json:"outcome"`
	Code       string    `json:"code"`
	Detail     string    `json:"detail"`
	Method     string    `json:"method"`
	Scheme     string    `json:"scheme"`
	Host       string    `json:"host"`
	Port       int       `json:"port"`
	Path       string    `json:"path"`
	Status     int       `json:"status"`
	BytesIn    int64     `json:"bytes_in"`
	BytesOut   int64     `json:"bytes_out"`
	DurationMS float64   `json:"duration_ms"`
	Protocol   string    `json:"protocol"`
	ExitCode   *int      `json:"exit_code"`
}

func (w *wireEvent) event() Event {
	return Event{
		Time: w.Time, Event: w.Event, Profile: w.Profile, Provider: w.Provider,
		Connection: w.Connection, Outcome: w.Outcome, Code: w.Code, Detail: w.Detail,
		Method: w.Method, Scheme: w.Scheme, Host: w.Host, Port: w.Port, Path: w.Path,
		Status: w.Status, BytesIn: w.BytesIn, BytesOut: w.BytesOut,
		Duration: time.Duration(w.DurationMS * float64(time.Millisecond)),
		Protocol: w.Protocol, ExitCode: w.ExitCode, Actor: w.Actor,
	}
}
