package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"time"

	"authsome/proxy/bench/internal/rig"
)

const (
	fields = "Server: origin\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nCache-Control: no-store\r\nX-Request-Id: 4c1f0a52-3f7b-4b43-9b55-0b1a7a3f6a52\r\n"
	big    = 100 << 20
)

var (
	kilobyte  = bytes.Repeat([]byte("0123456789abcdef"), 64)
	answer1k  = json(1)
	answer16k = json(16)
	headSSE   = []byte("HTTP/1.1 200 OK\r\n" + fields + "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
	done      = []byte("HTTP/1.1 200 OK\r\n" + fields + "Content-Length: 0\r\n\r\n")
	denied    = []byte("HTTP/1.1 401 Unauthorized\r\n" + fields + "Content-Length: 0\r\n\r\n")
	missing   = []byte("HTTP/1.1 404 Not Found\r\n" + fields + "Content-Length: 0\r\n\r\n")

	zeros = make([]byte, 128<<10)
)

// json is a whole answer of so many kilobytes.
func json(kilobytes int) []byte {
	head := "HTTP/1.1 200 OK\r\n" + fields + "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(kilobytes<<10) + "\r\n\r\n"
	return append([]byte(head), bytes.Repeat(kilobyte, kilobytes)...)
}

// eventGap lies between the events of /sse, and eventCount is how many come.
const (
	eventGap   = 30 * time.Millisecond
	eventCount = 3
)

// serveH1 answers the requests of one connection. The plain listener is for
// tunnels, through which no credential comes.
func serveH1(c net.Conn) {
	defer c.Close()
	_, secure := c.(*tls.Conn)
	br := bufio.NewReaderSize(c, 8<<10)
	for {
		head, err := readHead(br)
		if err != nil {
			return
		}
		if secure && !bytes.Contains(head, []byte(rig.Authorization)) {
			_, err = c.Write(denied)
		} else {
			err = answer(c, br, head)
		}
		if err != nil {
			return
		}
	}
}

// readHead returns a request's head, valid until br is read again.
func readHead(br *bufio.Reader) ([]byte, error) {
	for need := 1; ; need = br.Buffered() + 1 {
		if _, err := br.Peek(need); err != nil {
			return nil, err
		}
		b, _ := br.Peek(br.Buffered())
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			br.Discard(i + 4)
			return b[:i+4], nil
		}
	}
}

func answer(c net.Conn, br *bufio.Reader, head []byte) error {
	_, rest, _ := bytes.Cut(head, []byte(" "))
	path, _, _ := bytes.Cut(rest, []byte(" "))
	switch string(path) {
	case "/1k":
		_, err := c.Write(answer1k)
		return err
	case "/16k":
		_, err := c.Write(answer16k)
		return err
	case "/100m":
		return download(c, big)
	case "/1g":
		return download(c, 10*big)
	case "/sse":
		return events(c)
	case "/sink":
		if err := sink(br, head); err != nil {
			return err
		}
		_, err := c.Write(done)
		return err
	}
	if id, ok := bytes.CutPrefix(path, []byte("/pending?")); ok {
		return pendH1(br, string(id))
	}
	if id, ok := bytes.CutPrefix(path, []byte("/broken?")); ok {
		if tc, secure := c.(*tls.Conn); secure {
			return breakH1(tc, string(id))
		}
	}
	if ok, err := report(c, string(path)); ok {
		return err
	}
	_, err := c.Write(missing)
	return err
}

func download(c net.Conn, size int) error {
	head := "HTTP/1.1 200 OK\r\n" + fields + "Content-Type: application/octet-stream\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n"
	if _, err := c.Write([]byte(head)); err != nil {
		return err
	}
	for left := size; left > 0; {
		n, err := c.Write(zeros[:min(left, len(zeros))])
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// events sends the head and the first event in one piece, later ones apart.
// Every event carries when it was sent.
func events(c net.Conn) error {
	out := append([]byte(nil), headSSE...)
	for i := range eventCount {
		if i > 0 {
			time.Sleep(eventGap)
		}
		event := "data: " + strconv.FormatInt(time.Now().UnixNano(), 10) + "\n\n"
		out = append(out, strconv.FormatInt(int64(len(event)), 16)+"\r\n"+event+"\r\n"...)
		if _, err := c.Write(out); err != nil {
			return err
		}
		out = out[:0]
	}
	_, err := c.Write([]byte("0\r\n\r\n"))
	return err
}

func sink(br *bufio.Reader, head []byte) error {
	lower := bytes.ToLower(head)
	if bytes.Contains(lower, []byte("\r\ntransfer-encoding: chunked\r\n")) {
		if _, err := io.Copy(io.Discard, httputil.NewChunkedReader(br)); err != nil {
			return err
		}
		_, err := br.Discard(2) // the empty line after the last chunk
		return err
	}
	_, after, _ := bytes.Cut(lower, []byte("\r\ncontent-length: "))
	digits, _, _ := bytes.Cut(after, []byte("\r\n"))
	n, _ := strconv.ParseInt(string(digits), 10, 64)
	_, err := io.CopyN(io.Discard, br, n)
	return err
}
