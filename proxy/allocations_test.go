package proxy_test

import (
	"bytes"
	"io"
	"testing"
)

// TestAllocations counts what a request on an open connection allocates, with
// what both ends of TLS take in the same process. That is 17, and would be 35
// if heads were not used again; with the race detector, which has pools forget
// things, it is 27.
func TestAllocations(t *testing.T) {
	const most = 30
	origin := newRawOrigin(t, func(c *rawConn) {
		for {
			line, err := c.br.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 2 {
				io.WriteString(c.Conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Request-Id: 0123456789abcdef\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	}, "http/1.1")
	r := newRig(t, false, nil, origin.use)
	c, _ := r.tls(apiHost + ":443")
	request := []byte("GET /v1/models?limit=20 HTTP/1.1\r\nHost: " + apiHost + "\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n" +
		"Content-Type: application/json\r\nUser-Agent: agent/1.0\r\nX-Trace: 0123456789abcdef\r\n\r\n")
	answer := make([]byte, 16<<10)
	exchange := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		for n := 0; !bytes.HasSuffix(answer[:n], []byte("ok")); {
			m, err := c.Read(answer[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
	}
	exchange() // connects
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 OK\r\n")) {
		t.Fatalf("got %.100q", answer)
	}
	if got := testing.AllocsPerRun(500, exchange); got > most {
		t.Errorf("got %.0f allocations per request, want at most %d", got, most)
	} else {
		t.Logf("%.1f allocations per request", got)
	}
}
