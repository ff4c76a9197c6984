package injector_test

import (
	"errors"
	"strings"
	"testing"

	"authsome/injector"
)

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct {
		in   string
		port uint16 // default
		want string // "" is an error
	}{
		{"api.example.com:443", 0, "api.example.com:443"},
		{"api.example.com", 443, "api.example.com:443"},
		{"api.example.com", 0, ""},
		{"API.Example.COM:443", 0, "api.example.com:443"},
		{"api.example.com.:443", 0, "api.example.com:443"},
		{"api.example.com..:443", 0, ""},
		{".api.example.com:443", 0, ""},
		{"bücher.example:443", 0, "xn--bcher-kva.example:443"},
		{"XN--BCHER-KVA.example:443", 0, "xn--bcher-kva.example:443"},
		{"ａｐｉ.example.com:443", 0, "api.example.com:443"}, // full-width letters
		{"api。example.com:443", 0, "api.example.com:443"}, // ideographic full stop
		{"127.0.0.1:80", 0, "127.0.0.1:80"},
		{"127.1:80", 0, ""},
		{"2130706433:80", 0, ""},
		{"0x7f.0.0.1:80", 0, ""},
		{"0177.0.0.1:80", 0, ""},
		{"１２７.0.0.1:80", 0, "127.0.0.1:80"},
		{"[::1]:443", 0, "[::1]:443"},
		{"[::1]", 443, "[::1]:443"},
		{"[0:0::1]:443", 0, "[::1]:443"},
		{"[::ffff:127.0.0.1]:443", 0, "127.0.0.1:443"},
		{"[::ffff:7f00:1]:443", 0, "127.0.0.1:443"},
		{"::1:443", 0, ""},
		{"::1", 443, ""},
		{"[::1", 443, ""},
		{"[::1]443", 0, ""},
		{"[::1]:", 443, ""},
		{"[::1]x:443", 0, ""},
		{"[api.example.com]:443", 0, ""},
		{"[fe80::1%25eth0]:443", 0, ""},
		{"[fe80::1%eth0]:443", 0, ""},
		{"api.example.com:", 443, ""},
		{"api.example.com:0", 443, ""},
		{"api.example.com:65535", 0, "api.example.com:65535"},
		{"api.example.com:65536", 0, ""},
		{"api.example.com:+443", 0, ""},
		{"api.example.com:-443", 0, ""},
		{"api.example.com:4_43", 0, ""},
		{"api.example.com: 443", 0, ""},
		{"api.example.com:443 ", 0, ""},
		{"api.example.com:443:443", 0, ""},
		{"api.example.com:0x1bb", 0, ""},
		{"api.example.com:https", 0, ""},
		{"user@api.example.com:443", 0, ""},
		{"user:pw@api.example.com:443", 0, ""},
		{"api.example.com/path:443", 0, ""},
		{"https://api.example.com:443", 0, ""},
		{"api example.com:443", 0, ""},
		{"api.example.com\x00.evil.com:443", 0, ""},
		{"api.example.com\r\nX: y:443", 0, ""},
		{"api%2eexample.com:443", 0, ""},
		{"*.example.com:443", 0, ""},
		{":443", 0, ""},
		{"", 443, ""},
		{".", 443, ""},
		{strings.Repeat("a", 64) + ".com:443", 0, ""},
		{strings.Repeat("a.", 127) + "com:443", 0, ""},
	} {
		got, err := injector.ParseTarget(tt.in, tt.port)
		if tt.want == "" {
			if !errors.Is(err, injector.ErrBadTarget) {
				t.Errorf("ParseTarget(%q, %d): got %v, %v, want ErrBadTarget", tt.in, tt.port, got, err)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("ParseTarget(%q, %d): got %v, %v, want %s", tt.in, tt.port, got, err, tt.want)
		}
	}
}

func TestIsLiteral(t *testing.T) {
	for in, want := range map[string]bool{
		"127.0.0.1:1": true, "10.0.0.1:1": true, "[::1]:1": true, "[2001:db8::a]:1": true, "localhost:1": true,
		"LOCALHOST.:1": true, "x.localhost:1": true, "api.example.com:1": false, "localhost.example.com:1": false,
		"api4:1": false, "notlocalhost:1": false,
	} {
		target, err := injector.ParseTarget(in, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := target.IsLiteral(); got != want {
			t.Errorf("%s: got %v, want %v", in, got, want)
		}
	}
}

// FuzzParseTarget holds that an accepted target has one spelling, that this
// spelling parses to the same target, and that neither case nor a trailing dot
// makes another target of it.
func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"api.example.com:443", "API.example.com.", "[::1]:443", "[::ffff:1.2.3.4]:80", "127.0.0.1",
		"bücher.example:443", "xn--bcher-kva.example", "0x7f.1:80", "a@b:443", "[fe80::1%25e]:443", "ｅｘａｍｐｌｅ。com", "host:0443", "host:99999", "a_b.example:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := injector.ParseTarget(s, 443)
		if err != nil {
			if !errors.Is(err, injector.ErrBadTarget) || target != (injector.Target{}) {
				t.Fatalf("%q: got %+v with %v", s, target, err)
			}
			return
		}
		if strings.ContainsAny(target.Host, " \t\r\n\x00/@?#%[]\\") || target.Host != strings.ToLower(target.Host) || target.Port == 0 {
			t.Fatalf("%q: got %q", s, target)
		}
		for _, spelling := range []string{target.String(), strings.ToUpper(target.String())} {
			again, err := injector.ParseTarget(spelling, 0)
			if err != nil || again != target {
				t.Fatalf("%q is %v, whose spelling %q is %v, %v", s, target, spelling, again, err)
			}
		}
		if !strings.Contains(target.Host, ":") {
			dotted, err := injector.ParseTarget(target.Host+".", target.Port)
			if err != nil && !target.IsLiteral() || err == nil && dotted != target {
				t.Fatalf("%q with a trailing dot is %v, %v", target.Host, dotted, err)
			}
		}
		target.IsLiteral() // must not panic
	})
}
