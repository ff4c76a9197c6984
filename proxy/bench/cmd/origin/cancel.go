package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// An affair is a request that one side breaks off. The client asks for
// /pending?ID, whose answer never comes, or for /broken?ID, whose answer the
// origin breaks off; and on a connection of its own, past the proxy, for
//
//	/arrived?ID  answered once the request has reached the origin
//	/break?ID    answered once the origin has broken off its answer
//	/over?ID     answered once the origin has noticed that the client has gone
//
// The last two are answered with when it was, in nanoseconds.
type affair struct {
	arrive  sync.Once     // a proxy may send a request again
	arrived chan struct{} // closed by it
	broken  chan struct{} // closed to have the answer broken off
	end     sync.Once
	over    chan struct{} // closed by it, when at is set
	at      time.Time     // the origin broke off, or saw that the client did
}

func (a *affair) begin() { a.arrive.Do(func() { close(a.arrived) }) }

func (a *affair) finish() {
	a.end.Do(func() {
		a.at = time.Now()
		close(a.over)
	})
}

var affairs = struct {
	sync.Mutex // guards byID
	byID       map[string]*affair
}{byID: make(map[string]*affair)}

// affairOf returns the affair of an ID, which may be new.
func affairOf(id string) *affair {
	affairs.Lock()
	defer affairs.Unlock()
	a := affairs.byID[id]
	if a == nil {
		a = &affair{arrived: make(chan struct{}), broken: make(chan struct{}), over: make(chan struct{})}
		affairs.byID[id] = a
	}
	return a
}

const (
	// arrival is how long a request may be under way: contestants start, and
	// make their certificates, meanwhile.
	arrival = 5 * time.Second
	// patience bounds the wait for what a proxy may never pass on. It is five
	// times the target.
	patience = time.Second
)

// report answers the client's question about an affair. ok is false for other
// paths.
func report(c net.Conn, path string) (ok bool, err error) {
	question, id, _ := strings.Cut(path, "?")
	if question != "/arrived" && question != "/break" && question != "/over" {
		return false, nil
	}
	a := affairOf(id)
	wait, limit := a.over, patience
	switch question {
	case "/arrived":
		wait, limit = a.arrived, arrival
	case "/break":
		close(a.broken)
	}
	select {
	case <-wait:
	case <-time.After(limit):
		_, err := c.Write(missing)
		return true, err
	}
	at := ""
	if wait == a.over {
		at = strconv.FormatInt(a.at.UnixNano(), 10)
		affairs.Lock()
		delete(affairs.byID, id)
		affairs.Unlock()
	}
	_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", fields, len(at), at)
	return true, err
}

// pendH1 waits for the client of an HTTP/1.1 request to go.
func pendH1(br *bufio.Reader, id string) error {
	a := affairOf(id)
	a.begin()
	_, err := br.Peek(1)
	a.finish()
	return err
}

const (
	brokenBytes = 1_000_000 // announced
	brokenAfter = 64 << 10  // more than a proxy collects before it sends
	brokenHead  = "HTTP/1.1 200 OK\r\n" + fields + "Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n"
)

// breakH1 begins an answer and resets its connection.
func breakH1(c *tls.Conn, id string) error {
	a := affairOf(id)
	if _, err := c.Write(append([]byte(brokenHead), zeros[:brokenAfter]...)); err != nil {
		return err
	}
	a.begin()
	<-a.broken
	raw := c.NetConn().(*net.TCPConn)
	raw.SetLinger(0)
	a.finish()
	return raw.Close()
}

// pend waits for the client of an HTTP/2 request to go.
func (h *h2Conn) pend(s *stream, id string) {
	a := affairOf(id)
	a.begin()
	h.mu.Lock()
	for !h.over && h.streams[s.id] != nil {
		h.wake.Wait()
	}
	h.mu.Unlock()
	a.finish()
}

// breakOff begins an answer and resets its stream.
func (h *h2Conn) breakOff(s *stream, id string) {
	a := affairOf(id)
	if !h.head(s, "200", brokenBytes, false) || !h.write(s, zeros[:brokenAfter], false) {
		return
	}
	a.begin()
	<-a.broken
	a.finish()
	h.send(func(w *http2.Framer) error { return w.WriteRSTStream(s.id, http2.ErrCodeInternal) })
}
