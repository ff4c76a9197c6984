package isolate

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Resolver answers the questions of the namespace from outside it.
type Resolver struct {
	// Lookup finds the addresses of a host: network is "ip4" or "ip6". Nil is
	// the system's resolver.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	// Allowed reports whether a host may be asked for. What may not be reached
	// is not looked up: a question to a name server is a way out too.
	Allowed func(host string) bool

	// ByName reports whether the proxy finds a host by its name, whatever the
	// address that its client connects to. Such a host has an address even
	// when there is none here, as where an upstream proxy alone knows names.
	ByName func(host string) bool

	Logger *slog.Logger // nil discards
}

// StandIn is the address of hosts that have none here (RFC 5737: nobody's).
var StandIn = netip.MustParseAddr("192.0.2.1")

const (
	// lookupTime bounds a question. Resolvers ask again after 5 s.
	lookupTime = 10 * time.Second
	// questionTime is how long a connection may wait between two questions.
	questionTime = 30 * time.Second
	// answerTTL is how long an answer may be kept, in seconds. The system's
	// resolver does not say how long it would.
	answerTTL = 30
	// questions at once; more wait.
	questions = 64
)

// ServeUDP answers datagrams until c is closed.
func (r *Resolver) ServeUDP(c net.PacketConn) {
	slots := make(chan struct{}, questions)
	buf := make([]byte, 4<<10)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond) // about an answer to somebody who has gone
			continue
		}
		question := append([]byte(nil), buf[:n]...)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			if answer := r.answer(question, true); answer != nil {
				c.WriteTo(answer, from)
			}
		}()
	}
}

// ServeTCP answers connections until l is closed.
func (r *Resolver) ServeTCP(l net.Listener) {
	slots := make(chan struct{}, questions)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		slots <- struct{}{}
		go func() {
			defer func() { c.Close(); <-slots }()
			r.serveConn(c)
		}()
	}
}

// serveConn answers questions with lengths before them (RFC 1035 section 4.2.2).
func (r *Resolver) serveConn(c net.Conn) {
	for {
		c.SetDeadline(time.Now().Add(questionTime))
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		answer := r.answer(question, false)
		if answer == nil {
			return
		}
		binary.BigEndian.PutUint16(length[:], uint16(len(answer)))
		if _, err := c.Write(append(length[:], answer...)); err != nil {
			return
		}
	}
}

// maxDatagramBytes is what every client takes (RFC 1035 section 4.2.1).
const maxDatagramBytes = 512

// answer returns the answer to a message, nil when there is none to give.
func (r *Resolver) answer(message []byte, datagram bool) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(message)
	if err != nil || header.Response {
		return nil
	}
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: header.ID, Response: true, OpCode: header.OpCode,
		RecursionDesired: header.RecursionDesired, RecursionAvailable: true}}
	q, err := p.Question()
	switch {
	case err != nil:
		reply.RCode = dnsmessage.RCodeFormatError
	case header.OpCode != 0:
		reply.RCode = dnsmessage.RCodeNotImplemented
	default:
		reply.Questions = []dnsmessage.Question{q}
		var addrs []netip.Addr
		addrs, reply.RCode = r.resolve(q)
		for _, a := range addrs {
			reply.Answers = append(reply.Answers, resource(q, a))
		}
	}
	packed, err := reply.Pack()
	if err == nil && datagram && len(packed) > maxDatagramBytes {
		reply.Answers, reply.Truncated = nil, true // asked again over TCP
		packed, err = reply.Pack()
	}
	if err != nil {
		return nil
	}
	return packed
}

func resource(q dnsmessage.Question, a netip.Addr) dnsmessage.Resource {
	h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: answerTTL}
	if q.Type == dnsmessage.TypeA {
		return dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}}
	}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}}
}

// resolve answers questions for addresses. To all others about a name that may
// be asked for, the answer is that there is nothing.
func (r *Resolver) resolve(q dnsmessage.Question) ([]netip.Addr, dnsmessage.RCode) {
	host := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") { // RFC 6761 section 6.3
		return loopback(q.Type), dnsmessage.RCodeSuccess
	}
	if !r.Allowed(host) {
		return nil, dnsmessage.RCodeRefused
	}
	if q.Class != dnsmessage.ClassINET || q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeAAAA {
		return nil, dnsmessage.RCodeSuccess
	}
	addrs, err := r.lookup(host, q.Type)
	if len(addrs) > 0 {
		return addrs, dnsmessage.RCodeSuccess
	}
	var dns *net.DNSError
	notFound := err == nil || errors.As(err, &dns) && dns.IsNotFound
	switch {
	case r.ByName(host):
		return r.standIn(host, q.Type), dnsmessage.RCodeSuccess
	case !notFound:
		r.logger().Debug("a name could not be looked up", "error", err)
		return nil, dnsmessage.RCodeServerFailure
	case r.exists(host, q.Type):
		return nil, dnsmessage.RCodeSuccess
	}
	return nil, dnsmessage.RCodeNameError
}

// exists tells a name without addresses of one family from one that is none.
func (r *Resolver) exists(host string, asked dnsmessage.Type) bool {
	addrs, _ := r.lookup(host, otherFamily(asked))
	return len(addrs) > 0
}

// standIn is for names that have no address of any family.
func (r *Resolver) standIn(host string, asked dnsmessage.Type) []netip.Addr {
	if asked == dnsmessage.TypeA && !r.exists(host, asked) {
		return []netip.Addr{StandIn}
	}
	return nil
}

func otherFamily(t dnsmessage.Type) dnsmessage.Type {
	if t == dnsmessage.TypeA {
		return dnsmessage.TypeAAAA
	}
	return dnsmessage.TypeA
}

// lookup returns addresses of the family that was asked for alone.
func (r *Resolver) lookup(host string, t dnsmessage.Type) ([]netip.Addr, error) {
	network := "ip4"
	if t == dnsmessage.TypeAAAA {
		network = "ip6"
	}
	look := r.Lookup
	if look == nil {
		look = net.DefaultResolver.LookupNetIP
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	found, err := look(ctx, network, host)
	var addrs []netip.Addr
	for _, a := range found {
		if a = a.Unmap().WithZone(""); a.Is4() == (t == dnsmessage.TypeA) {
			addrs = append(addrs, a)
		}
	}
	return addrs, err
}

func loopback(t dnsmessage.Type) []netip.Addr {
	switch t {
	case dnsmessage.TypeA:
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	case dnsmessage.TypeAAAA:
		return []netip.Addr{netip.IPv6Loopback()}
	}
	return nil
}

func (r *Resolver) logger() *slog.Logger {
	if r.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Logger
}
