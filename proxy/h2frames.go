package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"time"

	"golang.org/x/net/http2"
)

// frames follows a stream of HTTP/2 frames (RFC 9113 section 4.1) through pieces
// that begin and end anywhere.
type frames struct {
	head   [frameHeadBytes]byte
	have   int  // bytes of head
	left   int  // bytes of the payload that are yet to come
	wanted bool // somebody wants to see them
}

const frameHeadBytes = 9

// frameReader is told of frames.
type frameReader interface {
	// begin is called with each frame's head, and says whether to be shown
	// its payload.
	begin(f *frames) (wanted bool)
	// payload is called for each part of it, with its place in the piece and
	// how many bytes of the frame are left with it.
	payload(from, to, left int)
}

func (f *frames) kind() http2.FrameType { return http2.FrameType(f.head[3]) }
func (f *frames) flags() http2.Flags    { return http2.Flags(f.head[4]) }
func (f *frames) stream() uint32        { return binary.BigEndian.Uint32(f.head[5:]) &^ (1 << 31) }

// walk follows the next piece.
func (f *frames) walk(p []byte, to frameReader) {
	for i := 0; i < len(p); {
		if f.left > 0 {
			n := min(f.left, len(p)-i)
			if f.wanted {
				to.payload(i, i+n, f.left)
			}
			i += n
			f.left -= n
			continue
		}
		n := copy(f.head[f.have:], p[i:])
		i += n
		if f.have += n; f.have == frameHeadBytes {
			f.have, f.left = 0, int(f.head[0])<<16|int(f.head[1])<<8|int(f.head[2])
			f.wanted = to.begin(f)
		}
	}
}

// settingsConn is an HTTP/2 connection to an origin, above TLS. What is read is
// looked through for how many streams the origin allows: net/http says that to
// nobody, and only waits when there are more.
type settingsConn struct {
	net.Conn // hides from net/http that it is TLS
	of       *h2Conn
	frames   frames // of what is read
	piece    []byte
	settings []byte // a frame's payload, as far as it has come
	first    bool   // the first has been seen
}

// Read implements net.Conn.
func (s *settingsConn) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.piece = p[:n]
	s.frames.walk(s.piece, s)
	s.piece = nil
	if err != nil {
		s.of.settle(0, false)
	}
	return n, err
}

// Write implements net.Conn. A connection that cannot be written to is over, also
// when that has taken too long; net/http lets others use it until the request
// that it wrote for has been cleared up.
func (s *settingsConn) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	if err != nil {
		s.of.broken.Store(true)
	}
	return n, err
}

// settingsBytes bounds the settings that are looked at: RFC 9113 has six.
const settingsBytes = 4 << 10

// begin implements frameReader.
func (s *settingsConn) begin(f *frames) (wanted bool) {
	if f.kind() != http2.FrameSettings || f.flags().Has(http2.FlagSettingsAck) {
		return false
	}
	s.settings = s.settings[:0]
	if f.left == 0 || f.left > settingsBytes {
		s.apply()
		return false
	}
	return true
}

// payload implements frameReader.
func (s *settingsConn) payload(from, to, left int) {
	s.settings = append(s.settings, s.piece[from:to]...)
	if left == to-from {
		s.apply()
	}
}

// apply takes in a whole frame (RFC 9113 section 6.5.1). An origin that does not
// name a limit in its first has none.
func (s *settingsConn) apply() {
	streams, said := uint32(streamsPerConn), !s.first
	s.first = true
	for b := s.settings; len(b) >= 6; b = b[6:] {
		if http2.SettingID(binary.BigEndian.Uint16(b)) == http2.SettingMaxConcurrentStreams {
			streams, said = binary.BigEndian.Uint32(b[2:]), true
		}
	}
	s.of.settle(streams, said)
}

// Close implements net.Conn. TLS would wait for a dead socket to say goodbye.
// net/http closes what it does not like without reading on.
func (s *settingsConn) Close() error {
	s.of.settle(0, false)
	defer time.AfterFunc(goodbyeTime, func() { s.Conn.(*tls.Conn).NetConn().Close() }).Stop()
	return s.Conn.Close()
}

const goodbyeTime = 250 * time.Millisecond
