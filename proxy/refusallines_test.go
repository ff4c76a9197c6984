package proxy_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"authsome/proxy"
)

// TestRefusalsCannotFloodTheAuditLog has somebody be refused again and again,
// without a token, and with one.
func TestRefusalsCannotFloodTheAuditLog(t *testing.T) {
	t.Parallel()
	const times = 4000
	r := newRig(t, false, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	c := r.dial()
	go io.WriteString(c, strings.Repeat("GET http://"+apiHost+"/ HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n", times))
	br := bufio.NewReader(c)
	for range times {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if io.Copy(io.Discard, resp.Body); resp.StatusCode != http.StatusProxyAuthRequired {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	r.reaches(times, "authsome_refusals_total", "code=proxy_auth_required")
	if got := len(r.events()); got < 100 || got > times/2 {
		t.Errorf("%d lines record %d refusals of a stranger", got, times)
	}

	// What happens to those who may use the proxy is recorded one by one.
	before := len(r.events())
	c, br = r.tls(apiHost + ":443")
	for range 50 {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	if got := len(r.events()) - before; got < 50 {
		t.Errorf("%d lines record 50 refusals", got)
	}

	// … unless it is done to fill the log with them.
	const flood = 12_000
	before = len(r.events())
	c, br = r.tls(apiHost + ":443")
	go io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", flood))
	for range flood {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if io.Copy(io.Discard, resp.Body); resp.StatusCode != http.StatusMisdirectedRequest {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	r.reaches(50+flood, "authsome_refusals_total", "code=target_mismatch")
	if got := len(r.events()) - before; got < 5000 || got > flood-200 {
		t.Errorf("%d lines record %d refusals", got, flood)
	}
	before = len(r.events())
	resp, err := r.client(false).Get("https://" + apiHost + "/")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v", resp, err)
	}
	resp.Body.Close()
	if got := len(r.events()) - before; got != 1 {
		t.Error("no line records an injection after the flood")
	}

	// The next stranger's line says how many there were.
	for range 200 {
		c := r.dial()
		io.WriteString(c, "GET http://"+apiHost+"/ HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
		http.ReadResponse(bufio.NewReader(c), nil)
		if e := r.event("refuse"); strings.HasSuffix(e.Detail, " more were refused") {
			return
		}
		sleep(10)
	}
	t.Error("no line tells of the refusals that were not recorded")
}

// TestStrangersDoNotLinger has somebody without a token stay after the refusal.
func TestStrangersDoNotLinger(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, nil, func(_ *rig, c *proxy.Config) {
		c.Limits.RequestHeader, c.Limits.IdleClient = 200*time.Millisecond, time.Minute
	})
	c := r.dial()
	io.WriteString(c, "GET http://"+apiHost+"/ HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusProxyAuthRequired {
		t.Fatalf("got %+v, %v", resp, err)
	}
	io.Copy(io.Discard, resp.Body)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("the connection ended with %v, want EOF", err)
	}
}
