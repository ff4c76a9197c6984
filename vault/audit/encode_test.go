package audit_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"authsome/vault/audit"
)

func TestLine(t *testing.T) {
	zero, at := 0, time.Date(2026, 1, 2, 3, 4, 5, 6789, time.FixedZone("", 3600))
	tests := []struct {
		name  string
		event audit.Event
		want  string
	}{
		{"least", audit.Event{Event: "init", Time: at},
			`{"time":"2026-01-02T02:04:05.000006Z","event":"init","actor":{"pid":0,"uid":0},"outcome":"ok"}`},
		{"login", audit.Event{Event: "login", Time: at, Profile: "p", Provider: "github", Connection: "work", Outcome: audit.Failed, Code: "conflict", Detail: "d"},
			`{"time":"2026-01-02T02:04:05.000006Z","event":"login","profile":"p","provider":"github","connection":"work","actor":{"pid":0,"uid":0},"outcome":"failed","code":"conflict","detail":"d"}`},
		{"inject", audit.Event{Event: "inject", Time: at, Provider: "github", Method: "GET", Scheme: "https", Host: "api.github.com", Port: 443,
			Path: "/user", Status: 200, BytesOut: 17, Duration: 81250 * time.Microsecond, Protocol: "h2", Actor: audit.Actor{PID: 7, UID: -1, Run: "r"}},
			`{"time":"2026-01-02T02:04:05.000006Z","event":"inject","provider":"github","actor":{"pid":7,"uid":-1,"run":"r"},"outcome":"ok","method":"GET","scheme":"https","host":"api.github.com","port":443,"path":"/user","status":200,"bytes_in":0,"bytes_out":17,"duration_ms":81.250,"protocol":"h2"}`},
		{"run.end", audit.Event{Event: "run.end", Time: at, ExitCode: &zero},
			`{"time":"2026-01-02T02:04:05.000006Z","event":"run.end","actor":{"pid":0,"uid":0},"outcome":"ok","exit_code":0}`},
		{"hostile", audit.Event{Event: "refuse", Time: at, Path: "/a\"\n{}\x1b[31m\xff\u009b\u2028é"},
			`{"time":"2026-01-02T02:04:05.000006Z","event":"refuse","actor":{"pid":0,"uid":0},"outcome":"ok","path":"/a\"\u000a{}\u001b[31m\ufffd\u009b\u2028é"}`},
	}
	for _, tt := range tests {
		got, err := json.Marshal(tt.event) // json.Marshal compacts and checks what MarshalJSON returns
		if err != nil {
			t.Fatal(err)
		}
		// It also escapes what it pleases, so compare with the method itself.
		if own, _ := tt.event.MarshalJSON(); string(own) != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, own, tt.want)
		}
		var back audit.Event
		if err := json.Unmarshal(got, &back); err != nil || !back.Time.Equal(tt.event.Time.Truncate(time.Microsecond)) || back.Provider != tt.event.Provider ||
			back.Duration != tt.event.Duration || back.Actor != tt.event.Actor || back.Host != tt.event.Host || (back.ExitCode == nil) != (tt.event.ExitCode == nil) {
			t.Errorf("%s: read back as %+v, %v", tt.name, back, err)
		}
	}
}

// FuzzLine holds that any values make one bounded line of valid JSON, that says
// what was put in as far as it fits.
func FuzzLine(f *testing.F) {
	f.Add("inject", "github", "api.github.com", "/user", "GET", int64(1), 200)
	f.Add("\n", "\x00", "\"}", "\\", "\u2028\u2029", int64(-1), -1)
	f.Add("\xff\xfe", "é\xed\xa0\x80", strings.Repeat("h", 999), strings.Repeat("/\x01", 9999), strings.Repeat("é", 99), int64(1<<62), 1<<31-1)
	f.Add(strings.Repeat("\x7f", 9999), strings.Repeat("\x01", 9999), strings.Repeat("\x01", 9999), strings.Repeat("\x01", 9999), strings.Repeat("\x01", 9999), int64(-1<<63), -1<<31)
	f.Fuzz(func(t *testing.T, word, name, host, path, method string, n int64, i int) {
		e := audit.Event{
			Event: word, Profile: name, Provider: name, Connection: name, Outcome: word, Code: word, Detail: path,
			Method: method, Scheme: method, Host: host, Port: i, Path: path, Status: i, BytesIn: n, BytesOut: n,
			Duration: time.Duration(n), Protocol: method, ExitCode: &i, Actor: audit.Actor{PID: i, UID: i, Run: name},
		}
		line := audit.Line(e)
		if len(line) > audit.MaxLineBytes {
			t.Errorf("line of %d bytes", len(line))
		}
		if !bytes.HasSuffix(line, []byte("}\n")) || bytes.Count(line, []byte("\n")) != 1 || !utf8.Valid(line) {
			t.Errorf("not one line of UTF-8: %q", line)
		}
		for _, r := range string(line[:len(line)-1]) {
			if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
				t.Errorf("unescaped %U in %q", r, line)
			}
		}
		var back audit.Event
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatalf("not JSON: %v: %q", err, line)
		}
		want := strings.ToValidUTF8(path, "\ufffd")
		if cut, ok := strings.CutSuffix(back.Path, "…"); back.Path != valid(path) && !(ok && strings.HasPrefix(valid(path), cut)) {
			t.Errorf("path %q became %q", want, back.Path)
		}
		if len(path) <= 200 && back.Path != valid(path) {
			t.Errorf("a short path %q became %q", path, back.Path)
		}
		if back.BytesIn != n || back.Status != i {
			t.Errorf("numbers %d, %d became %d, %d", n, i, back.BytesIn, back.Status)
		}
	})
}

// valid replaces each invalid byte, as the encoder does.
func valid(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}
