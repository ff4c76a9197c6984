//go:build linux

package soak_test

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsMode is how the name server answers.
type dnsMode int32

const (
	dnsAnswers dnsMode = iota
	dnsFails           // SERVFAIL
	dnsSilent          // not at all
)

// dns is the internet's name server.
type dns struct {
	mode    atomic.Int32
	queries atomic.Int64
}

// newDNS serves names until the test ends.
func newDNS(t *testing.T) *dns {
	t.Helper()
	d := &dns{}
	c, err := net.ListenPacket("udp", nameServer+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 4<<10)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			d.queries.Add(1)
			if answer := d.answer(buf[:n]); answer != nil {
				c.WriteTo(answer, from)
			}
		}
	}()
	return d
}

func (d *dns) set(mode dnsMode) { d.mode.Store(int32(mode)) }

func (d *dns) answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 || dnsMode(d.mode.Load()) == dnsSilent {
		return nil
	}
	q := m.Questions[0]
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: m.Questions}
	address, known := addressOf(strings.TrimSuffix(q.Name.String(), "."))
	switch {
	case dnsMode(d.mode.Load()) == dnsFails:
		reply.RCode = dnsmessage.RCodeServerFailure
	case !known:
		reply.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		reply.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body: &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()}}}
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// addressOf says where a name is.
func addressOf(name string) (address string, known bool) {
	host, known := strings.CutSuffix(strings.ToLower(name), "."+domain)
	switch {
	case !known:
		return "", false
	case strings.HasSuffix(host, ".auth"):
		return authOrigin, true
	case strings.HasSuffix(host, ".fault-auth"):
		return faultAuth, true
	case strings.HasSuffix(host, ".fault"):
		return faultOrigin, true
	case host == "h2" || host == "elsewhere":
		return h2Origin, true
	}
	return plainOrigin, true
}

// domain is where all the internet's names are.
const domain = "example.test"
