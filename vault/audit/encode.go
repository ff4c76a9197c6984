package audit

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// MaxLineBytes bounds a line, its newline included. It is what one [Ticket]
// sets aside on disk, and small enough that a terminal or collector takes it
// whole.
const MaxLineBytes = 4096

// Each value may take so many bytes once it is escaped. With the names, the
// numbers and the chain (under 700 bytes together) they stay within
// MaxLineBytes, which a test holds.
const (
	roomWord   = 48   // event, outcome, code, method, scheme, protocol
	roomName   = 128  // profile, provider, connection, run
	roomHost   = 300  // a DNS name has at most 253 bytes
	roomDetail = 512  // detail
	roomPath   = 1536 // path
)

// appendTime appends RFC 3339 with a fixed width, so that lines sort as text.
// Of all layouts package time is quick at this one alone.
func appendTime(b []byte, t time.Time) []byte {
	b = t.UTC().AppendFormat(b, time.RFC3339)
	b[len(b)-1] = '.' // for the Z
	micros := t.Nanosecond() / 1000
	for unit := 100_000; unit > 0; unit /= 10 {
		b = append(b, byte('0'+micros/unit%10))
	}
	return append(b, 'Z')
}

// lineStart begins every line. A reader that meets half a line, left by a full
// disk, finds the next one by it.
const lineStart = `{"time":"`

// appendEvent appends the line for e without its closing brace.
func appendEvent(b []byte, e *Event) []byte {
	b = append(b, lineStart...)
	b = appendTime(b, e.Time)
	b = append(b, `","event":`...)
	b = appendString(b, e.Event, roomWord)
	b = appendField(b, `,"profile":`, e.Profile, roomName)
	b = appendField(b, `,"provider":`, e.Provider, roomName)
	b = appendField(b, `,"connection":`, e.Connection, roomName)
	b = append(b, `,"actor":{"pid":`...)
	b = strconv.AppendInt(b, int64(e.Actor.PID), 10)
	b = append(b, `,"uid":`...)
	b = strconv.AppendInt(b, int64(e.Actor.UID), 10)
	b = appendField(b, `,"run":`, e.Actor.Run, roomName)
	b = append(b, `},"outcome":`...)
	outcome := e.Outcome
	if outcome == "" {
		outcome = OK
	}
	b = appendString(b, outcome, roomWord)
	b = appendField(b, `,"code":`, e.Code, roomWord)
	b = appendField(b, `,"detail":`, e.Detail, roomDetail)
	b = appendRequest(b, e)
	if e.ExitCode != nil {
		b = append(b, `,"exit_code":`...)
		b = strconv.AppendInt(b, int64(*e.ExitCode), 10)
	}
	return b
}

// appendRequest appends what only a request has. Sizes and duration are written
// for every request, zero included, so that sums need no special case.
func appendRequest(b []byte, e *Event) []byte {
	b = appendField(b, `,"method":`, e.Method, roomWord)
	b = appendField(b, `,"scheme":`, e.Scheme, roomWord)
	b = appendField(b, `,"host":`, e.Host, roomHost)
	b = appendNumber(b, `,"port":`, int64(e.Port), false)
	b = appendField(b, `,"path":`, e.Path, roomPath)
	b = appendNumber(b, `,"status":`, int64(e.Status), false)
	request := e.Host != ""
	b = appendNumber(b, `,"bytes_in":`, e.BytesIn, request)
	b = appendNumber(b, `,"bytes_out":`, e.BytesOut, request)
	if request || e.Duration != 0 {
		b = append(b, `,"duration_ms":`...)
		b = strconv.AppendFloat(b, float64(e.Duration)/float64(time.Millisecond), 'f', 3, 64)
	}
	return appendField(b, `,"protocol":`, e.Protocol, roomWord)
}

// appendChain appends what ties the line to the one before, and closes it.
func appendChain(b []byte, chain string, seq uint64, prev, after []byte) []byte {
	b = append(b, `,"chain":"`...)
	b = append(b, chain...)
	b = append(b, `","seq":`...)
	b = strconv.AppendUint(b, seq, 10)
	if len(prev) > 0 {
		b = append(b, `,"prev":"`...)
		b = append(b, prev...)
		b = append(b, '"')
	}
	if len(after) > 0 {
		b = append(b, `,"after":"`...)
		b = append(b, after...)
		b = append(b, '"')
	}
	return append(b, "}\n"...)
}

func appendField(b []byte, name, value string, room int) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value, room)
}

func appendNumber(b []byte, name string, n int64, always bool) []byte {
	if n == 0 && !always {
		return b
	}
	return strconv.AppendInt(append(b, name...), n, 10)
}

// ellipsis ends a value that was cut.
const ellipsis = "…"

// appendString appends s as a JSON string whose content takes at most room
// bytes. What a terminal or a line reader could act upon is escaped: C0 and C1
// controls, DEL, U+2028 and U+2029.
func appendString(b []byte, s string, room int) []byte {
	b = append(b, '"')
	if len(s) <= room && isPlain(s) {
		return append(append(b, s...), '"')
	}
	start, cut := len(b), len(b)
	for i := 0; i < len(s); {
		if len(b)-start <= room-len(ellipsis) {
			cut = len(b)
		}
		if c := s[i]; c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			b = append(b, c)
			i++
		} else {
			r, size := utf8.DecodeRuneInString(s[i:])
			b = appendRune(b, r, s[i:i+size])
			i += size
		}
		if len(b)-start > room {
			b = append(b[:cut], ellipsis...)
			break
		}
	}
	return append(b, '"')
}

// isPlain reports whether s is its own JSON form.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func appendRune(b []byte, r rune, raw string) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r))
	case r == utf8.RuneError && len(raw) == 1:
		return append(b, `\ufffd`...)
	case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029:
		const hex = "0123456789abcdef"
		return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
	}
	return append(b, raw...)
}
