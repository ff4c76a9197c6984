package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"authsome/proxy"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Origin speaks HTTP/2 frame by frame. answer is called for each request with
// the number of its connection.
func h2Origin(answer func(conn int, o *h2Speaker, id uint32, path string)) func(*rawConn) {
	var conns atomic.Int32
	return func(c *rawConn) {
		n := int(conns.Add(1))
		if _, err := io.ReadFull(c.br, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		o := &h2Speaker{fr: http2.NewFramer(c, c.br)}
		o.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		o.fr.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		for {
			f, err := o.fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					o.fr.WriteSettingsAck()
				}
			case *http2.PingFrame:
				if !f.IsAck() {
					o.pings.Add(1)
					o.fr.WritePing(true, f.Data)
				}
			case *http2.RSTStreamFrame:
				o.reset.Store(uint32(f.ErrCode) + 1)
			case *http2.MetaHeadersFrame:
				answer(n, o, f.StreamID, f.PseudoValue("path"))
			case *http2.DataFrame:
				o.said.Write(f.Data())
				if f.StreamEnded() && o.whole != nil {
					o.whole(f.StreamID)
				}
			}
		}
	}
}

// h2Speaker is one connection of an h2Origin.
type h2Speaker struct {
	fr    *http2.Framer
	reset atomic.Uint32   // code of the last RST_STREAM, plus one
	pings atomic.Int32    // that came
	whole func(id uint32) // told when a request's body has ended
	said  bytes.Buffer    // of bodies
}

func (o *h2Speaker) head(id uint32, end bool, fields ...string) {
	var b strings.Builder
	enc := hpack.NewEncoder(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(b.String()), EndStream: end, EndHeaders: true})
}

// resetCodes are all of RFC 9113 section 7, and one that is not.
var resetCodes = []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeProtocol, http2.ErrCodeInternal, http2.ErrCodeFlowControl,
	http2.ErrCodeSettingsTimeout, http2.ErrCodeStreamClosed, http2.ErrCodeFrameSize, http2.ErrCodeRefusedStream,
	http2.ErrCodeCancel, http2.ErrCodeCompression, http2.ErrCodeConnect, http2.ErrCodeEnhanceYourCalm,
	http2.ErrCodeInadequateSecurity, http2.ErrCodeHTTP11Required, 0x1234}

// A stream that the origin resets is reset for an HTTP/2 client, with the same
// code, and is a cut body for another; streams beside it go on. Before there is
// an answer the client gets a refusal, which is recorded; gRPC clients, who map
// the codes to statuses, get the code and the record says that it was no answer.
func TestResetsAreCarried(t *testing.T) {
	t.Parallel()
	for _, code := range resetCodes {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			origin := newRawOrigin(t, h2Origin(func(_ int, o *h2Speaker, id uint32, path string) {
				if path == "/early" {
					o.fr.WriteRSTStream(id, code)
					return
				}
				o.head(id, false, ":status", "200")
				o.fr.WriteData(id, false, []byte("half"))
				if path == "/late" {
					o.fr.WriteRSTStream(id, code)
					return
				}
				o.fr.WriteData(id, true, nil)
			}), "h2")
			r := newRig(t, true, whoami, origin.use)
			h := r.h2(apiHost + ":443")
			late, whole := h.open(true, get("/late")), h.open(true, get("/whole"))
			if a := h.wait(late); a.status != "200" || string(a.body) != "half" || a.reset == nil || *a.reset != code {
				t.Errorf("within the body: got %+v, reset %v", a, a.reset)
			}
			if a := h.wait(whole); a.status != "200" || a.reset != nil || string(a.body) != "half" {
				t.Errorf("a stream beside it: got %+v", a)
			}
			if code != http2.ErrCodeHTTP11Required { // see TestHTTP11Required
				if a := h.wait(h.open(true, get("/early"))); a.status != "502" || a.first("authsome-error") != "upstream_unreachable" {
					t.Errorf("before the answer: got %+v", a)
				}
				if e := r.event("refuse"); e.Code != "upstream_unreachable" || e.Status != http.StatusBadGateway {
					t.Errorf("audit: got %+v", e)
				}
				early := h.open(true, post("/early", "content-type", "application/grpc+proto"))
				if a := h.wait(early); a.status != "" || a.reset == nil || *a.reset != code {
					t.Errorf("before the answer to a gRPC client: got %+v, reset %v", a, a.reset)
				}
				if e := r.event("refuse"); e.Code != "upstream_unreachable" || e.Status != 0 || e.Method != http.MethodPost {
					t.Errorf("audit of the gRPC call: got %+v", e)
				}
				r.reaches(2, "authsome_refusals_total", "code=upstream_unreachable")
			}
			if h.away != nil {
				t.Errorf("the connection was ended with %v", *h.away)
			}
			resp, err := r.client(false).Get("https://" + apiHost + "/late")
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("h1 client: got %q and no error", b)
			}
		})
	}
}

// Of many streams that are reset at once, each with another code, each gets its
// own.
func TestResetsAreNotMixedUp(t *testing.T) {
	t.Parallel()
	origin := newRawOrigin(t, h2Origin(func(_ int, o *h2Speaker, id uint32, path string) {
		code, _ := strconv.Atoi(strings.TrimPrefix(path, "/"))
		o.head(id, false, ":status", "200")
		o.fr.WriteData(id, false, make([]byte, 100*code))
		o.fr.WriteRSTStream(id, http2.ErrCode(code))
	}), "h2")
	r := newRig(t, true, whoami, origin.use)
	h := r.h2(apiHost + ":443")
	streams := map[int]uint32{}
	for code := range 50 {
		streams[code] = h.open(true, get(fmt.Sprint("/", code)))
	}
	for code, id := range streams {
		if a := h.wait(id); a.reset == nil || *a.reset != http2.ErrCode(code) || len(a.body) > 100*code {
			t.Errorf("code %d: got %d bytes, reset %v", code, len(a.body), a.reset)
		}
	}
}

// A WebSocket on an HTTP/2 stream is reset with the origin's code as well.
func TestResetOfAWebSocket(t *testing.T) {
	t.Parallel()
	origin := newRawOrigin(t, h2Origin(func(_ int, o *h2Speaker, id uint32, _ string) {
		o.head(id, false, ":status", "200")
		o.fr.WriteRSTStream(id, http2.ErrCodeEnhanceYourCalm)
	}), "h2")
	r := newRig(t, true, whoami, origin.use)
	h := r.h2(apiHost + ":443")
	id := h.open(false, []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", apiHost, ":path", "/",
		"sec-websocket-version", "13"})
	if a := h.wait(id); a.status != "200" || a.reset == nil || *a.reset != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("got %+v, reset %v", a, a.reset)
	}
}

// However what the server writes falls into pieces, the code of a noted stream
// is put in, and nothing else is changed.
func TestResetCodesInPieces(t *testing.T) {
	t.Parallel()
	write := func(noted, other http2.ErrCode) []byte {
		var b bytes.Buffer
		fr := http2.NewFramer(&b, nil)
		fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 3})
		fr.WriteData(3, false, []byte{0, 0, 4, 3, 0, 0, 0, 0, 5, 0, 0, 0, 2}) // looks like a frame
		fr.WriteRSTStream(3, other)
		fr.WriteRSTStream(5, noted)
		fr.WriteSettingsAck()
		fr.WriteRSTStream(5, other) // is noted no more
		fr.WriteRSTStream(7, noted)
		fr.WriteData(9, true, nil)
		return b.Bytes()
	}
	sent, want := write(http2.ErrCodeInternal, http2.ErrCodeInternal), write(0x01020304, http2.ErrCodeInternal)
	for size := 1; size <= len(sent); size++ {
		before := bytes.Clone(sent)
		var got bytes.Buffer
		err := proxy.WriteWithResets(&got, sent, size, map[uint32]http2.ErrCode{5: 0x01020304, 7: 0x01020304})
		if err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("in pieces of %d: got %x, %v, want %x", size, got.Bytes(), err, want)
		}
		if !bytes.Equal(sent, before) {
			t.Fatalf("in pieces of %d: the writer's bytes were changed", size)
		}
	}
}

// A client's reset reaches the origin's stream, and only that.
func TestClientResetsAreCarried(t *testing.T) {
	t.Parallel()
	speaker := make(chan *h2Speaker, 4)
	origin := newRawOrigin(t, h2Origin(func(_ int, o *h2Speaker, id uint32, path string) {
		if path == "/wait" {
			speaker <- o
			return
		}
		o.head(id, true, ":status", "204")
	}), "h2")
	r := newRig(t, true, whoami, origin.use)
	h := r.h2(apiHost + ":443")
	id := h.open(true, get("/wait"))
	o := wait(t, "the request reaches the origin", speaker)
	h.fr.WriteRSTStream(id, http2.ErrCodeCancel)
	eventually(t, "the origin's stream is reset", func() bool { return o.reset.Load() == uint32(http2.ErrCodeCancel)+1 })
	if a := h.wait(h.open(true, get("/"))); a.status != "204" {
		t.Errorf("the next stream: got %+v", a)
	}
}

// An origin's GOAWAY ends its connection for what comes next: streams that it
// named are answered, those that it did not see are sent anew, and the client
// hears nothing of it.
func TestGoAwayOfTheOrigin(t *testing.T) {
	t.Parallel()
	origin := newRawOrigin(t, h2Origin(func(conn int, o *h2Speaker, id uint32, path string) {
		switch {
		case conn == 1 && path == "/last": // is the last one, and answered afterwards
			o.fr.WriteGoAway(id, http2.ErrCodeNo, nil)
		case conn == 1 && path == "/unseen":
			t.Errorf("a request after GOAWAY, on the same connection")
		}
		o.head(id, false, ":status", "200", "x-conn", fmt.Sprint(conn))
		o.fr.WriteData(id, true, []byte("whole"))
	}), "h2")
	r := newRig(t, true, whoami, origin.use)
	for _, clientH2 := range []bool{true, false} {
		client := r.client(clientH2)
		for _, path := range []string{"/first", "/last", "/unseen", "/unseen"} {
			if !clientH2 && path == "/last" {
				continue
			}
			resp, err := client.Post("https://"+apiHost+path, "text/plain", nil)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != "whole" || resp.StatusCode != http.StatusOK {
				t.Errorf("%s: got %d %q, %v", path, resp.StatusCode, body, err)
			}
			if got := resp.Header.Get("X-Conn"); clientH2 && got != map[bool]string{true: "2", false: "1"}[path == "/unseen"] {
				t.Errorf("%s went over connection %s", path, got)
			}
		}
	}
}

// A proxy that ends says so with GOAWAY, and answers what it has.
func TestGoAwayOfTheProxy(t *testing.T) {
	t.Parallel()
	goOn, reached := make(chan struct{}), make(chan struct{}, 1)
	r := newRig(t, true, func(w http.ResponseWriter, _ *http.Request) {
		reached <- struct{}{}
		<-goOn
		io.WriteString(w, "whole")
	})
	h := r.h2(apiHost + ":443")
	id := h.open(true, get("/"))
	wait(t, "the request reaches the origin", reached)
	done := make(chan error, 1)
	go func() { done <- r.proxy.Shutdown(t.Context()) }()
	if !h.until(func() bool { return h.away != nil }) {
		t.Error("the connection ended without a GOAWAY")
	}
	close(goOn)
	if a := h.wait(id); a.status != "200" || string(a.body) != "whole" || *h.away != http2.ErrCodeNo {
		t.Errorf("got %+v, GOAWAY %v", a, *h.away)
	}
	h.conn.Close()
	if err := wait(t, "Shutdown returns", done); err != nil {
		t.Error(err)
	}
}

// TestPings has streams on which nothing comes for long. Their origins are asked
// whether they are there, but not those of gRPC calls, which would be told to go
// away for it.
func TestPings(t *testing.T) {
	t.Parallel()
	silent := func(fields []string) *h2Speaker {
		opened := make(chan *h2Speaker, 1)
		origin := newRawOrigin(t, h2Origin(func(_ int, o *h2Speaker, id uint32, _ string) {
			o.head(id, false, ":status", "200")
			opened <- o
		}), "h2")
		r := newRig(t, true, whoami, origin.use, func(_ *rig, c *proxy.Config) {
			c.Limits.Ping, c.Limits.PingGRPC = 20*time.Millisecond, time.Hour
		})
		r.h2(apiHost+":443").open(true, fields)
		return <-opened
	}
	grpc := silent(post("/", "content-type", "application/grpc+proto"))
	other := silent(post("/", "content-type", "application/json"))
	eventually(t, "the origin was asked three times", func() bool { return other.pings.Load() >= 3 })
	if n := grpc.pings.Load(); n > 0 {
		t.Errorf("the gRPC origin was asked %d times", n)
	}
}
