package proxy

import (
	"net/http"
	"sync"
)

// inform passes on an informational response (RFC 9110 section 15.2). The 100
// is not passed on but made anew: our reading of the body asks for it.
func (x *exchange) inform(status int, h http.Header) {
	if status == http.StatusContinue {
		return
	}
	if hasHopByHop(h) && hopByHop.ModifyResponse(&http.Response{Header: h}) != nil {
		return
	}
	delete(h, "Content-Length") // RFC 9110 section 8.6
	x.beginDown()               // a client need not read
	defer x.endDown()
	if w, ok := x.w.(*h1Writer); ok {
		x.extend()
		w.inform(status, h)
		return
	}
	header := x.w.Header()
	for name, v := range h {
		header[name] = v
	}
	// On a stream that is reset WriteHeader does not wait until the header is
	// written. With this field, which is left out, net/http writes a copy.
	header["Content-Length"] = noLength
	x.w.WriteHeader(status)
	clear(header)
}

var noLength = []string{"0"}

// news are the informational responses to one request on a connection that is
// shared with others, whose reader must not wait for this client. Those that
// come faster than the client takes them are dropped.
type news struct {
	x *exchange

	mu      sync.Mutex // guards all below
	queue   []informational
	bytes   int
	over    bool          // the final answer is next, or none is
	telling chan struct{} // closed when nobody passes them on any more; nil: nobody does
}

type informational struct {
	status int
	header http.Header
}

// newsKept is how many may wait for the client.
const newsKept = 8

// add is for whoever reads from the origin. It fails when an origin goes on for
// too long without an answer.
func (n *news) add(status int, h http.Header) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bytes += headBytes(h); n.bytes > responseHeadBytes {
		return errHeadTooLarge
	}
	if n.over || status == http.StatusContinue || len(n.queue) == newsKept {
		return nil
	}
	n.queue = append(n.queue, informational{status, h})
	if n.telling == nil {
		n.telling = make(chan struct{})
		go n.tell(n.telling)
	}
	return nil
}

func (n *news) tell(done chan struct{}) {
	defer close(done)
	for {
		n.mu.Lock()
		if len(n.queue) == 0 {
			n.telling = nil
			n.mu.Unlock()
			return
		}
		next := n.queue[0]
		n.queue = n.queue[1:]
		n.mu.Unlock()
		n.x.inform(next.status, next.header)
	}
}

// end returns when nothing more will be told. Without an answer to come, what
// waits is not worth telling.
func (n *news) end(answered bool) {
	n.mu.Lock()
	n.over = true
	if !answered {
		n.queue = nil
	}
	telling := n.telling
	n.mu.Unlock()
	if telling != nil {
		<-telling
	}
}

// headBytes is about what a head takes on the wire.
func headBytes(h http.Header) int {
	total := 16 // the status line
	for name, values := range h {
		for _, v := range values {
			total += len(name) + len(v) + 4
		}
	}
	return total
}
