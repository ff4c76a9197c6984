package proxy

import (
	"errors"
	"io"
	"net"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// TLS record types (RFC 8446 section 5.1) and sizes.
const (
	recordAlert     = 21
	recordHandshake = 22

	recordHeaderBytes = 5
	maxRecordBytes    = 1 << 14
	maxHelloBytes     = 64 << 10 // with post-quantum key shares about 2 KiB are usual
)

// clientHello is what a ClientHello says before anything is encrypted.
type clientHello struct {
	serverName string // as sent; "" when there is none
}

var (
	errHello = errors.New("malformed ClientHello")
)

// shortError is how long a stream has to be for more to be known of it.
type shortError int

func (shortError) Error() string { return "incomplete ClientHello" }

// readHello reads until a ClientHello is complete, and returns everything that
// was read for whoever speaks TLS afterwards. The first read takes all that c
// had read ahead.
func readHello(c net.Conn) (read []byte, hello clientHello, err error) {
	buf := make([]byte, 0, 8<<10) // more than a connection's buffer
	var seen helloRecords
	for need := shortError(0); ; {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		// A client that sends a byte at a time shall not have each looked at.
		if len(buf) >= int(need) {
			hello, parseErr := seen.parse(buf)
			if !errors.As(parseErr, &need) {
				return buf, hello, parseErr
			}
		}
		switch {
		case len(buf) >= maxHelloBytes:
			return buf, hello, errHello
		case err == io.EOF:
			return buf, hello, io.ErrUnexpectedEOF
		case err != nil:
			return buf, hello, err
		}
	}
}

// parseHello reads a ClientHello (RFC 8446 section 4.1.2) off the beginning of a
// TLS stream. What crypto/tls refuses to read is refused here too, so that both
// see the same name: two names, two extensions of one kind, a trailing dot.
func parseHello(stream []byte) (clientHello, error) { return new(helloRecords).parse(stream) }

// parse is parseHello for a stream of which this much has come by now.
func (r *helloRecords) parse(stream []byte) (clientHello, error) {
	message, err := r.message(stream)
	if err != nil {
		return clientHello{}, err
	}
	s := cryptobyte.String(message)
	var session, suites, compression cryptobyte.String
	if !s.Skip(2+32) || // legacy_version, random
		!s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16LengthPrefixed(&suites) ||
		!s.ReadUint8LengthPrefixed(&compression) {
		return clientHello{}, errHello
	}
	if s.Empty() {
		return clientHello{}, nil // before TLS 1.2 there need not be extensions
	}
	var extensions cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return clientHello{}, errHello
	}
	return readExtensions(extensions)
}

func readExtensions(s cryptobyte.String) (hello clientHello, err error) {
	const serverName = 0 // RFC 6066 section 3
	seen := map[uint16]bool{}
	for !s.Empty() {
		var kind uint16
		var data cryptobyte.String
		if !s.ReadUint16(&kind) || !s.ReadUint16LengthPrefixed(&data) || seen[kind] {
			return clientHello{}, errHello
		}
		seen[kind] = true
		if kind == serverName {
			if hello.serverName, err = readServerName(data); err != nil {
				return clientHello{}, err
			}
		}
	}
	return hello, nil
}

func readServerName(s cryptobyte.String) (host string, err error) {
	var names cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&names) || names.Empty() || !s.Empty() {
		return "", errHello
	}
	for !names.Empty() {
		var kind uint8
		var name cryptobyte.String
		if !names.ReadUint8(&kind) || !names.ReadUint16LengthPrefixed(&name) || name.Empty() {
			return "", errHello
		}
		if kind != 0 { // only host_name is defined
			continue
		}
		if host != "" || strings.HasSuffix(string(name), ".") {
			return "", errHello
		}
		host = string(name)
	}
	return host, nil
}

// helloRecords are the records of a stream that were looked at. They are not
// looked at again when there is more of the stream: a client can send ten thousand
// of one byte.
type helloRecords struct {
	at     int    // where the next one begins
	joined []byte // what they carry
}

// message takes the first handshake message, which must be a ClientHello, out of
// the records that carry it.
func (r *helloRecords) message(stream []byte) ([]byte, error) {
	const clientHello, headerBytes = 1, 4
	for {
		if len(r.joined) > 0 && r.joined[0] != clientHello {
			return nil, errHello
		}
		if len(r.joined) >= headerBytes {
			size := int(r.joined[1])<<16 | int(r.joined[2])<<8 | int(r.joined[3])
			if size > maxHelloBytes {
				return nil, errHello
			}
			if len(r.joined) >= headerBytes+size {
				return r.joined[headerBytes : headerBytes+size], nil
			}
		}
		record := stream[r.at:]
		if len(record) > 0 && record[0] != recordHandshake { // the version after it says nothing
			return nil, errHello
		}
		if len(record) < recordHeaderBytes {
			return nil, shortError(r.at + recordHeaderBytes)
		}
		size := int(record[3])<<8 | int(record[4])
		if size == 0 || size > maxRecordBytes {
			return nil, errHello
		}
		end := r.at + recordHeaderBytes + size
		if len(stream) < end {
			return nil, shortError(end)
		}
		r.joined = append(r.joined, stream[r.at+recordHeaderBytes:end]...)
		r.at = end
	}
}
