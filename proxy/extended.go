//lint:file-ignore SA1019 net/http has a successor to what is deprecated here, which refuses to send :protocol.

package proxy

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"authsome/proxy/internal/xconnect"

	"golang.org/x/net/http2"
)

func init() { xconnect.Restore() }

// protocolHeader is where net/http keeps the :protocol of an extended CONNECT.
const protocolHeader = ":protocol"

// asExtended takes note of a WebSocket that is opened on an HTTP/2 stream by
// extended CONNECT (RFC 8441). Other protocols are nothing that a client could
// know the origin to speak.
func (x *exchange) asExtended() error {
	protocol := x.r.Header[protocolHeader]
	if x.r.Method != http.MethodConnect && protocol == nil {
		return nil
	}
	if x.r.Method != http.MethodConnect || len(protocol) != 1 || !strings.EqualFold(protocol[0], "websocket") {
		return fmt.Errorf("%w: CONNECT for another protocol than websocket", errHead)
	}
	delete(x.r.Header, protocolHeader)
	x.extended, x.protocol = x.r.Body, "websocket"
	return nil
}

// asUpgrade is the same request for an HTTP/1.1 origin (RFC 6455 section 4.1).
func asUpgrade(out *http.Request) *http.Request {
	var nonce [16]byte
	rand.Read(nonce[:])
	up := *out
	up.Method, up.Body, up.ContentLength = http.MethodGet, nil, 0
	up.Header = out.Header.Clone()
	up.Header["Connection"], up.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	up.Header["Sec-Websocket-Key"] = []string{base64.StdEncoding.EncodeToString(nonce[:])}
	return &up
}

// accepts reports whether the answer to an upgrade is one to its own key
// (RFC 6455 section 4.2.2).
func accepts(resp *http.Response) bool {
	key := resp.Request.Header.Get("Sec-Websocket-Key")
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return strings.EqualFold(upgradeType(resp.Header), "websocket") &&
		resp.Header.Get("Sec-Websocket-Accept") == base64.StdEncoding.EncodeToString(sum[:])
}

// errNoExtended is returned for an origin that takes no extended CONNECT.
var errNoExtended = errors.New("the origin offers no extended CONNECT")

// extended opens a WebSocket on an HTTP/2 connection of its own.
func (h *originHost) extended(ctx context.Context, x *exchange, out *http.Request) (*http.Response, error) {
	dialCtx, end := x.cancel.context(ctx)
	tc, err := h.dial(dialCtx, x.p, h.config)
	if !end() && err == nil {
		tc.Close()
		err = context.Canceled
	}
	if err != nil {
		return nil, err
	}
	if tc.ConnectionState().NegotiatedProtocol != "h2" {
		tc.Close()
		return nil, errNoExtended
	}
	cc, err := (&http2.Transport{DisableCompression: true}).NewClientConn(tc)
	if err != nil {
		tc.Close()
		return nil, err
	}
	in, body := io.Pipe()
	req := absolute(ctx, out, "https", h.target)
	req.Method, req.Body, req.ContentLength = http.MethodConnect, in, -1
	req.Header = req.Header.Clone()
	req.Header[protocolHeader] = []string{"websocket"}
	s := &extendedStream{cc: cc, tc: tc, w: body}
	if !x.cancel.on(s) {
		s.Close()
		return nil, context.Canceled
	}
	x.exposed = true
	resp, err := s.open(req, x.p.limits.ResponseHeader)
	if err != nil {
		alive := x.cancel.off()
		s.Close()
		switch {
		case !alive:
			err = context.Canceled
		case strings.Contains(err.Error(), "extended connect not supported"): // the package has no name for it
			err = errNoExtended
		}
		return nil, err
	}
	return resp, nil
}

// extendedStream is the origin's side of a WebSocket on an HTTP/2 stream, and
// the connection that carries nothing else.
type extendedStream struct {
	io.Reader
	body io.Closer // nil before there is an answer
	w    *io.PipeWriter
	cc   *http2.ClientConn
	tc   *tls.Conn
}

// open sends the request; zero is no limit for its answer's head.
func (s *extendedStream) open(req *http.Request, limit time.Duration) (*http.Response, error) {
	var late atomic.Bool
	if limit > 0 {
		defer time.AfterFunc(limit, func() { late.Store(true); s.abort() }).Stop()
	}
	resp, err := s.cc.RoundTrip(req)
	if late.Load() {
		return nil, os.ErrDeadlineExceeded
	}
	if err != nil {
		return nil, err
	}
	s.Reader, s.body = resp.Body, resp.Body
	resp.Body = s
	return resp, nil
}

// Write implements io.Writer.
func (s *extendedStream) Write(p []byte) (int, error) { return s.w.Write(p) }

// CloseWrite ends the stream's sending side with END_STREAM.
func (s *extendedStream) CloseWrite() error { return s.w.Close() }

// Close implements io.Closer.
func (s *extendedStream) Close() error {
	s.w.CloseWithError(errBodyClosed)
	if s.body != nil {
		s.body.Close()
	}
	return s.cc.Close()
}

// abort implements aborter.
func (s *extendedStream) abort() { s.tc.NetConn().Close() }

// respondExtended answers an extended CONNECT. What opens the stream there is a
// 2xx, here and from an HTTP/2 origin, and a 101 from an HTTP/1.1 origin.
func (x *exchange) respondExtended(resp *http.Response) (http.Header, ending) {
	origin, opened := resp.Body.(*extendedStream)
	var stream io.ReadWriteCloser = origin
	ok := resp.StatusCode >= 200 && resp.StatusCode < 300
	if resp.StatusCode == http.StatusSwitchingProtocols {
		stream, opened = resp.Body.(io.ReadWriteCloser)
		ok = accepts(resp)
	}
	switch {
	case ok && opened:
		return nil, x.openExtended(resp, stream)
	case ok, resp.StatusCode == http.StatusSwitchingProtocols:
		// A 2xx would tell the client that a WebSocket is open.
		resp.Body.Close()
		return nil, x.refuse(refuse(CodeUpstreamUnreachable, errors.New("the origin did not open a WebSocket")))
	}
	return x.respond(resp)
}

// openExtended tells the client that its WebSocket is open and joins both sides.
func (x *exchange) openExtended(resp *http.Response, origin io.ReadWriteCloser) ending {
	defer origin.Close()
	defer x.p.metrics.open("upgrade")()
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Accept", "Content-Length"} {
		delete(resp.Header, name)
	}
	hopByHop.ModifyResponse(resp)
	copyHeader(x.w.Header(), resp.Header)
	x.status = http.StatusOK
	x.w.WriteHeader(x.status)
	x.w.(http.Flusher).Flush()
	err := x.joinExtended(origin)
	x.finish()
	if err != nil {
		x.noteReset(err)
		return broken
	}
	return complete
}

// joinExtended copies both ways until the origin ends. The end of the client's
// side is passed on as one: its Close frame wants an answer.
func (x *exchange) joinExtended(origin io.ReadWriteCloser) error {
	idle := x.p.limits.IdleUpgrade
	control := http.NewResponseController(x.w)
	guard := time.AfterFunc(idle, func() {
		x.cancel.cancel()
		control.SetReadDeadline(time.Unix(1, 0))
		control.SetWriteDeadline(time.Unix(1, 0))
	})
	defer guard.Stop()
	up := make(chan int64, 1)
	go func() {
		n, err := x.pipe(origin, x.extended, guard, "up")
		if err == nil {
			closeWriteOf(origin)
		} else {
			x.cancel.cancel()
		}
		up <- n
	}()
	down, err := x.pipe(&flushed{x.w, control}, origin, guard, "down")
	x.down = down
	if err != nil {
		x.cancel.cancel()
	}
	control.SetReadDeadline(time.Unix(1, 0)) // whatever the client still says, nobody hears
	x.up.Store(<-up)
	return err
}

// flushed passes on every piece at once.
type flushed struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Write implements io.Writer.
func (f *flushed) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.control.Flush()
}
