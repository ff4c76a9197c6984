package provider_test

import (
	"net"
	"strings"
	"testing"

	"authsome/provider"
)

func TestCanonicalHost(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"example.com", "example.com"},
		{"API.Example.COM", "api.example.com"},
		{"example.com.", "example.com"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example", "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"example。com", "example.com"}, // ideographic full stop
		{"ｅｘａｍｐｌｅ.com", "example.com"},
		{"127.0.0.1", "127.0.0.1"},
		{"１２７.0.0.1", "127.0.0.1"},
		{"127.0.0.1.", "127.0.0.1"},
		{"::1", "::1"},
		{"[::1]", "::1"},
		{"0:0:0:0:0:0:0:1", "::1"},
		{"2001:DB8::0001", "2001:db8::1"},
		{"::ffff:127.0.0.1", "127.0.0.1"},
		{"[::FFFF:7f00:1]", "127.0.0.1"},
		{"localhost", "localhost"},
		{"my_bucket.example.com", "my_bucket.example.com"},
		{"r1---sn-4g5e.example.com", "r1---sn-4g5e.example.com"},
		{"-a.example.com", "-a.example.com"},
		{"a1.example.1a", "a1.example.1a"},
	} {
		got, err := provider.CanonicalHost(tc.in)
		if err != nil || got != tc.want {
			t.Errorf("CanonicalHost(%q) = %q, %v; want %q", tc.in, got, err, tc.want)
		}
	}
}

func TestCanonicalHostRejects(t *testing.T) {
	for _, in := range []string{
		"", ".", "..", "a..b", ".a", "a..", " a", "a b", "a\tb", "a\nb", "a\x00b", "user@a", "a:80", "a/b", `a\b`, "a?b", "a#b", "a%41",
		"[::1", "::1]", "[a]", "[127.0.0.1]", "[::1]:443", "fe80::1%eth0", "[fe80::1%25eth0]", "fe80::1%25eth0", ":", "::g",
		"127.1", "127.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001", "127.0.0.01", "1.2.3.4.5", "256.1.1.1", "example.0x", "example.0x7F", "a.1",
		"xn--", "xn--a.example", "a\u200db.example", "a\ufffd.example", "\xff.example",
		strings.Repeat("a", 64) + ".com", strings.Repeat("a.", 127) + "abc", "*.example.com",
	} {
		if got, err := provider.CanonicalHost(in); err == nil {
			t.Errorf("CanonicalHost(%q) = %q, want an error", in, got)
		}
	}
}

// FuzzCanonicalHost holds that the canonical spelling is canonical itself, that
// spellings which name the same host agree, and that nothing in it could be
// read as more than a host.
func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"example.com", "EXAMPLE.com.", "bücher.example", "xn--bcher-kva.example", "[::1]", "::ffff:1.2.3.4", "127.1",
		"１２７.0.0.1", "a。b", "faß.de", "ß", "xn--zca", "a_b", "xn--a-", "\u0130.example", "example.com..", "0x1", "1.2.3.4", "a\u00ad.b", "\u212a.example", "ℂ.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := provider.CanonicalHost(s)
		if err != nil {
			return
		}
		for _, spelling := range []string{c, strings.ToUpper(c), c + "."} {
			if strings.Contains(c, ":") && strings.HasSuffix(spelling, ".") {
				continue // addresses have no root
			}
			if again, err := provider.CanonicalHost(spelling); err != nil || again != c {
				t.Fatalf("CanonicalHost(%q) = %q, but CanonicalHost(%q) = %q, %v", s, c, spelling, again, err)
			}
		}
		if strings.ContainsAny(c, " \t\r\n\x00/\\@?#%[]*") || strings.ToLower(c) != c || len(c) > 253 {
			t.Fatalf("CanonicalHost(%q) = %q", s, c)
		}
		if strings.Contains(c, ":") && net.ParseIP(c) == nil {
			t.Fatalf("CanonicalHost(%q) = %q, which has a colon and is no address", s, c)
		}
	})
}
