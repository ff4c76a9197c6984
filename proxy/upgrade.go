package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http/httpguts"
)

// upgradeType returns the protocol that a request asks to switch to, or "".
func upgradeType(h http.Header) string {
	v := h["Upgrade"]
	if len(v) != 1 || !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	return v[0]
}

// upgrade answers 101 and joins client and origin (RFC 9110 section 7.8). What
// follows is neither HTTP nor ours: no byte of it is looked at.
func (x *exchange) upgrade(resp *http.Response) ending {
	origin, ok := resp.Body.(io.ReadWriteCloser)
	w, h1 := x.w.(*h1Writer)
	if !ok || !h1 || upgradeType(x.r.Header) == "" {
		resp.Body.Close()
		return x.refuse(refuse(CodeUpstreamUnreachable, errors.New("unexpected 101")))
	}
	defer origin.Close()
	x.status = resp.StatusCode
	protocol := upgradeType(resp.Header)
	hopByHop.ModifyResponse(resp)
	header := w.Header()
	for name, v := range resp.Header {
		header[name] = v
	}
	header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	x.extend()
	w.WriteHeader(resp.StatusCode)
	w.Flush()
	if !x.c.watch.stop() || w.err != nil {
		x.finish()
		return taken
	}
	defer x.p.metrics.open("upgrade")()
	x.join(origin)
	x.finish()
	return taken
}

// join copies both ways until one side ends or nothing moves for the idle
// limit. A WebSocket has no half-closed state (RFC 6455 section 7.1.1).
func (x *exchange) join(origin io.ReadWriteCloser) {
	client := x.c.rwc
	x.c.calm()
	guard := time.AfterFunc(x.p.limits.IdleUpgrade, func() {
		origin.Close()
		x.c.raw.Close()
	})
	defer guard.Stop()
	up := make(chan int64, 1)
	go func() {
		n, _ := x.pipe(origin, readerOf(client, x.c.br), guard, "up")
		origin.Close()
		up <- n
	}()
	x.down, _ = x.pipe(client, origin, guard, "down")
	closeWrite(client) // close_notify tells the client that this is the end
	client.SetReadDeadline(time.Now().Add(drainTime))
	x.up.Store(<-up)
}

// readerOf reads what is buffered and then the connection, without a buffer.
func readerOf(c net.Conn, br *bufio.Reader) io.Reader {
	return takeAhead(c, br)
}

// pipe copies until src ends, of which a nil error tells, or something fails.
func (x *exchange) pipe(dst io.Writer, src io.Reader, guard *time.Timer, direction string) (total int64, err error) {
	moved := x.p.metrics.moved.WithLabelValues(direction, "upgrade")
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			guard.Reset(x.p.limits.IdleUpgrade)
			if _, err := dst.Write((*buf)[:n]); err != nil {
				return total, err
			}
			total += int64(n)
			moved.Add(float64(n))
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
