package isolate_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"authsome/proxy/isolate"

	"golang.org/x/net/dns/dnsmessage"
)

// resolver knows some names. Those below attacker.test may not be asked for,
// and it fails the test if they are.
func resolver(t testing.TB) *isolate.Resolver {
	many := make([]netip.Addr, 60)
	for i := range many {
		many[i] = netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
	}
	known := map[string][]netip.Addr{
		"both.test": {netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")},
		"six.test":  {netip.MustParseAddr("2001:db8::6")},
		"many.test": many,
	}
	return &isolate.Resolver{
		Lookup: func(_ context.Context, network, host string) ([]netip.Addr, error) {
			if strings.HasSuffix(host, "attacker.test") {
				t.Errorf("%s was looked up", host)
			}
			if host == "broken.test" {
				return nil, errors.New("the resolver is broken")
			}
			var addrs []netip.Addr
			for _, a := range known[host] {
				if a.Is4() == (network == "ip4") {
					addrs = append(addrs, a)
				}
			}
			if addrs == nil {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			return addrs, nil
		},
		Allowed: func(host string) bool { return !strings.HasSuffix(host, "attacker.test") },
		ByName:  func(host string) bool { return host == "named.test" || host == "six.test" },
	}
}

func TestAnswers(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := resolver(t)
	ended := make(chan bool, 2)
	go func() { r.ServeUDP(c); ended <- true }()
	go func() { r.ServeTCP(l); ended <- true }()
	for _, test := range []struct {
		name  string
		kind  dnsmessage.Type
		rcode dnsmessage.RCode
		want  string
	}{
		{"both.test.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "198.51.100.7"},
		{"BOTH.Test.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, "2001:db8::7"},
		{"six.test.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, ""},
		{"both.test.", dnsmessage.TypeMX, dnsmessage.RCodeSuccess, ""},
		{"both.test.", dnsmessage.TypeTXT, dnsmessage.RCodeSuccess, ""},
		{"none.test.", dnsmessage.TypeA, dnsmessage.RCodeNameError, ""},
		{"broken.test.", dnsmessage.TypeA, dnsmessage.RCodeServerFailure, ""},
		{"named.test.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "192.0.2.1"},
		{"named.test.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, ""},
		{"secret.attacker.test.", dnsmessage.TypeA, dnsmessage.RCodeRefused, ""},
		{"secret.attacker.test.", dnsmessage.TypeTXT, dnsmessage.RCodeRefused, ""},
		{"secret.ATTACKER.test.", dnsmessage.TypeAAAA, dnsmessage.RCodeRefused, ""},
		{"localhost.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, "127.0.0.1"},
		{"app.localhost.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, "::1"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			address := c.LocalAddr().String()
			if network == "tcp" {
				address = l.Addr().String()
			}
			m := exchange(t, network, address, pack(t, test.name, test.kind))
			if got := addresses(m); m.ID != 42 || !m.Response || m.RCode != test.rcode || got != test.want {
				t.Errorf("%s %v over %s: got %v %s, want %v %s", test.name, test.kind, network, m.RCode, got, test.rcode, test.want)
			}
		}
	}
	// What does not fit a datagram is asked again over TCP.
	if m := exchange(t, "udp", c.LocalAddr().String(), pack(t, "many.test.", dnsmessage.TypeA)); !m.Truncated || len(m.Answers) != 0 {
		t.Errorf("many addresses: got %v", m.GoString())
	}
	if m := exchange(t, "tcp", l.Addr().String(), pack(t, "many.test.", dnsmessage.TypeA)); m.Truncated || len(m.Answers) != 60 {
		t.Errorf("many addresses over TCP: got %d", len(m.Answers))
	}
	c.Close()
	l.Close()
	<-ended
	<-ended
}

func pack(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 42, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func exchange(t *testing.T, network, address string, question []byte) (m dnsmessage.Message) {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 4096)
	if network == "udp" {
		c.Write(question)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		buf = buf[:n]
	} else {
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(question))), question...))
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			t.Fatal(err)
		}
		buf = buf[:binary.BigEndian.Uint16(buf)]
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Unpack(buf); err != nil {
		t.Fatal(err)
	}
	return m
}

func addresses(m dnsmessage.Message) string {
	var all []string
	for _, a := range m.Answers {
		switch body := a.Body.(type) {
		case *dnsmessage.AResource:
			all = append(all, netip.AddrFrom4(body.A).String())
		case *dnsmessage.AAAAResource:
			all = append(all, netip.AddrFrom16(body.AAAA).String())
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// FuzzAnswer: whatever is asked, what is answered is a message with the same
// number that is no question, and fits.
func FuzzAnswer(f *testing.F) {
	r := resolver(f)
	for _, name := range []string{"both.test.", "secret.attacker.test.", "localhost.", "."} {
		f.Add(pack(f, name, dnsmessage.TypeA))
	}
	f.Add([]byte{})
	f.Add(append(pack(f, "both.test.", dnsmessage.TypeAAAA), 0xff))
	f.Add([]byte("\x00\x01\x01\x00\xff\xff\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, question []byte) {
		answer := r.Answer(question, true)
		if answer == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil || !m.Response || m.ID != binary.BigEndian.Uint16(question) || len(answer) > 512 {
			t.Errorf("got %v, % x", err, answer)
		}
	})
}
