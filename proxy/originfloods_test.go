package proxy_test

import (
	"bytes"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"authsome/proxy"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// dripping writes a byte at a time, each in a record of its own.
type dripping struct{ net.Conn }

func (d dripping) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// fieldsOf is a block of name, value, name, value …
func fieldsOf(fields ...string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

// Whatever an HTTP/2 origin floods the proxy with, its client gets an answer or is
// told that there is none, the request beside it is answered, over another
// connection if need be, so is the next, and nothing is left of it.
func TestOriginFloods(t *testing.T) {
	const flood = 20_000
	whole := func(o *h2Speaker, id uint32) {
		o.head(id, false, ":status", "200")
		o.fr.WriteData(id, true, []byte("whole"))
	}
	for _, tt := range []struct {
		name   string
		attack func(o *h2Speaker, id uint32)
		wire   func(net.Conn) net.Conn
		want   string // "whole", "cut" or "502"
	}{
		{"padding", func(o *h2Speaker, id uint32) {
			o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fieldsOf(":status", "200"), EndHeaders: true, PadLength: 255})
			for i := range 5 {
				o.fr.WriteDataPadded(id, false, []byte("whole"[i:i+1]), make([]byte, 255))
				o.fr.WriteDataPadded(id, i == 4, nil, make([]byte, 255))
			}
		}, nil, "whole"},
		{"padding, a byte at a time", func(o *h2Speaker, id uint32) {
			o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fieldsOf(":status", "200"), EndHeaders: true, PadLength: 7})
			o.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 3})
			o.fr.WriteDataPadded(id, false, []byte("wh"), []byte{0, 0, 0, 0, 0, 0, 0})
			o.fr.WriteRawFrame(0x77, 0xff, id, []byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0}) // looks like settings
			o.fr.WriteDataPadded(id, true, []byte("ole"), []byte{0})
		}, func(c net.Conn) net.Conn { return dripping{c} }, "whole"},
		{"pings", func(o *h2Speaker, id uint32) {
			for range flood {
				o.fr.WritePing(false, [8]byte{})
			}
			whole(o, id)
		}, nil, "whole"},
		{"settings", func(o *h2Speaker, id uint32) {
			for i := range uint32(flood) {
				o.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1 + i%9}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: i})
			}
			whole(o, id)
		}, nil, "whole"},
		{"hints", func(o *h2Speaker, id uint32) {
			for range flood {
				o.head(id, false, ":status", "103", "link", strings.Repeat("a", 100))
			}
			whole(o, id)
		}, nil, "502"},
		{"a promise", func(o *h2Speaker, id uint32) {
			o.fr.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: fieldsOf(get("/pushed")...), EndHeaders: true})
			whole(o, id)
		}, nil, "502"},
		{"a field named ten thousand times", func(o *h2Speaker, id uint32) {
			fields := []string{":status", "200"}
			for range 10_000 {
				fields = append(fields, "x", strings.Repeat("a", 4000))
			}
			o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fieldsOf(fields...), EndHeaders: true})
			o.fr.WriteData(id, true, []byte("whole"))
		}, nil, "502"},
		{"a head without end", func(o *h2Speaker, id uint32) {
			o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fieldsOf(":status", "200")})
			for range flood {
				if o.fr.WriteContinuation(id, false, fieldsOf("x", strings.Repeat("~", 4000))) != nil {
					return
				}
			}
		}, nil, "502"},
		{"a head of empty frames", func(o *h2Speaker, id uint32) {
			o.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: fieldsOf(":status", "200")})
			for range flood {
				o.fr.WriteContinuation(id, false, nil)
			}
			o.fr.WriteContinuation(id, true, nil)
			o.fr.WriteData(id, true, []byte("whole"))
		}, nil, "whole"},
		{"empty DATA", func(o *h2Speaker, id uint32) {
			o.head(id, false, ":status", "200")
			for range flood {
				o.fr.WriteData(id, false, nil)
			}
			o.fr.WriteData(id, true, []byte("whole"))
		}, nil, "whole"},
		{"more DATA than asked for", func(o *h2Speaker, id uint32) {
			o.head(id, false, ":status", "200")
			for range 1000 {
				if o.fr.WriteData(id, false, make([]byte, 16<<10)) != nil {
					return
				}
			}
		}, nil, "cut"},
		{"frames of nobody's", func(o *h2Speaker, id uint32) {
			for kind := range http2.FrameType(3) {
				o.fr.WriteRawFrame(0xa0+kind, 0xff, id, make([]byte, 16<<10))
			}
			whole(o, id)
		}, nil, "whole"},
		{"resets of what was never asked", func(o *h2Speaker, id uint32) {
			for i := range uint32(flood) {
				o.fr.WriteRSTStream(2*i+1001, http2.ErrCodeCancel)
			}
			whole(o, id)
		}, nil, "whole"},
		{"GOAWAY that takes back the last", func(o *h2Speaker, id uint32) {
			o.fr.WriteGoAway(id, http2.ErrCodeNo, nil)
			for i := range uint32(flood) {
				o.fr.WriteGoAway(id+2*i, http2.ErrCodeNo, nil)
			}
			whole(o, id)
		}, nil, "whole"},
		{"a status in the trailer", func(o *h2Speaker, id uint32) {
			o.head(id, false, ":status", "200")
			o.fr.WriteData(id, false, []byte("whole"))
			o.head(id, true, ":status", "204", "x-t", "1")
		}, nil, "cut"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begun := make(chan struct{})
			var waits uint32 // the stream beside it, on the first connection
			speak := h2Origin(func(conn int, o *h2Speaker, id uint32, path string) {
				switch {
				case path == "/attack":
					o.fr.AllowIllegalWrites = true
					tt.attack(o, id)
					if id = waits; conn != 1 {
						return
					}
				case path == "/beside" && conn == 1:
					waits = id
					close(begun)
					return
				}
				o.head(id, true, ":status", "204")
			})
			origin := newRawOrigin(t, func(c *rawConn) {
				if tt.wire != nil {
					c.Conn = tt.wire(c.Conn)
				}
				speak(c)
			}, "h2")
			r := newRig(t, true, nil, origin.use, func(_ *rig, c *proxy.Config) { c.Limits.IdleUpstream, c.Logger = 500*time.Millisecond, nil })
			other := r.client(false)
			r.status(other)
			before, goroutines := used(t), runtime.NumGoroutine()
			attacked, bystander := r.h2(apiHost+":443"), r.h2(apiHost+":443")
			beside := bystander.open(true, get("/beside"))
			wait(t, "a request is under way", begun)
			a := attacked.wait(attacked.open(true, post("/attack")))
			got := a.status
			switch {
			case a.status == "200" && a.reset != nil:
				got = "cut"
			case a.status == "200":
				got = string(a.body)
			}
			if got != tt.want || got == "502" && a.first("authsome-error") != "upstream_unreachable" {
				t.Errorf("got %+v, want %s", a, tt.want)
			}
			if a := bystander.wait(beside); a.status != "204" {
				t.Errorf("beside it: got %+v", a)
			}
			if got := r.status(other); got != http.StatusNoContent {
				t.Errorf("the next: got %d", got)
			}
			if n := runtime.NumGoroutine() - goroutines; n > 100 {
				t.Errorf("%d goroutines are left", n)
			}
			attacked.conn.Close()
			bystander.conn.Close()
			before.returnsTo(t, 4000) // net/http keeps what there was of a connection for a while
		})
	}
}
