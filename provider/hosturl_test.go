package provider_test

import (
	"regexp"
	"strings"
	"testing"

	"authsome/provider"
)

func TestParseHostURL(t *testing.T) {
	for _, tc := range []struct {
		in           string
		kind         provider.Kind
		host, prefix string
		port         uint16
		suffix       string
	}{
		{"api.github.com", provider.Exact, "api.github.com", "", 443, ""},
		{"API.GitHub.Com.", provider.Exact, "api.github.com", "", 443, ""},
		{"münchen.example", provider.Exact, "xn--mnchen-3ya.example", "", 443, ""},
		{"localhost", provider.Exact, "localhost", "", 443, ""},
		{"127.0.0.1", provider.Exact, "127.0.0.1", "", 443, ""},
		{"::1", provider.Exact, "::1", "", 443, ""},
		{"[::1]", provider.Exact, "::1", "", 443, ""},
		{"2001:DB8:0:0:0:0:0:1", provider.Exact, "2001:db8::1", "", 443, ""},
		{"https://slack.com/api", provider.Exact, "slack.com", "/api", 443, ""},
		{"https://slack.com/api/", provider.Exact, "slack.com", "/api", 443, ""},
		{"HTTPS://Slack.com", provider.Exact, "slack.com", "", 443, ""},
		{"https://slack.com/", provider.Exact, "slack.com", "", 443, ""},
		{"https://slack.com:8443/a/b", provider.Exact, "slack.com", "/a/b", 8443, ""},
		{"https://[::1]:8443/x", provider.Exact, "::1", "/x", 8443, ""},
		{"https://127.0.0.1:4443", provider.Exact, "127.0.0.1", "", 4443, ""},
		{"https://a.example/caf%C3%A9", provider.Exact, "a.example", "/café", 443, ""},
		{"*.googleapis.com", provider.Wildcard, "googleapis.com", "", 443, ""},
		{"*.Example.co.uk", provider.Wildcard, "example.co.uk", "", 443, ""},
		{"https://*.example.com:8443/v1", provider.Wildcard, "example.com", "/v1", 8443, ""},
		{`regex:.*\.example\.com`, provider.Regex, "", "", 443, "example.com"},
		{`regex:([a-z0-9-]+\.)*googleapis\.com`, provider.Regex, "", "", 443, "googleapis.com"},
		{`regex:^([a-z0-9-]+\.)*googleapis\.com$`, provider.Regex, "", "", 443, "googleapis.com"},
		{`regex:(a|b\.evil)\.example\.com`, provider.Regex, "", "", 443, "example.com"},
		{`regex:(a\.example\.com|b\.c\.example\.com)`, provider.Regex, "", "", 443, "example.com"},
		{`regex:[a-z]+\.api\.example\.co\.uk`, provider.Regex, "", "", 443, "api.example.co.uk"},
		{`regex:(.*\.)?example\.com`, provider.Regex, "", "", 443, "example.com"},
		{`regex:api\.exampl[e]\.c(o)m`, provider.Regex, "", "", 443, "api.example.com"},
		{`regex:api[.]example[.]com`, provider.Regex, "", "", 443, "api.example.com"},
		{`regex:(?i)API\.Example\.COM`, provider.Regex, "", "", 443, "api.example.com"},
		{`regex:\Qapi.example.com\E`, provider.Regex, "", "", 443, "api.example.com"},
		{`regex:example\.com`, provider.Regex, "", "", 443, "example.com"},
		{`regex:(foo\.example\.com)?`, provider.Regex, "", "", 443, "foo.example.com"},
		{`regex:(a{1,3}\.)+example\.com`, provider.Regex, "", "", 443, "example.com"},
		{`regex:.*\.example\.com(\n)?`, provider.Regex, "", "", 443, "example.com"}, // no host has a newline
	} {
		p, err := provider.ParseHostURL(tc.in)
		if err != nil {
			t.Errorf("ParseHostURL(%q): %v", tc.in, err)
			continue
		}
		if p.Kind != tc.kind || p.Host != tc.host || p.PathPrefix != tc.prefix || p.Port != tc.port || p.Suffix != tc.suffix || p.Raw != tc.in {
			t.Errorf("ParseHostURL(%q) = %+v, want %v host %q port %d prefix %q suffix %q", tc.in, p, tc.kind, tc.host, tc.port, tc.prefix, tc.suffix)
		}
		if (p.Regexp != nil) != (tc.kind == provider.Regex) {
			t.Errorf("ParseHostURL(%q).Regexp = %v", tc.in, p.Regexp)
		}
	}
}

func TestParseHostURLRejects(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "empty",
		"http://api.example.com":          "write https://api.example.com",
		"HTTP://api.example.com":          "write https://",
		"ftp://example.com":               "scheme",
		"api.example.com/v1":              "write https://api.example.com/v1",
		"api.example.com:8443":            "write https://api.example.com:8443",
		"[::1]:8443":                      "write https://[::1]:8443",
		"user@example.com":                "more than a host",
		"https://user@example.com":        "userinfo",
		"https://example.com/?a=b":        "query",
		"https://example.com/?":           "query",
		"https://example.com/#x":          "fragment",
		"https://example.com/#":           "fragment",
		"https://example.com:":            "port",
		"https://example.com:0":           "port",
		"https://example.com:70000":       "port",
		"https://":                        "host is empty",
		"https:///path":                   "host is empty",
		"https://example.com/api/*":       "prefix already",
		"https://example.com/a/../b":      "write /b",
		"https://example.com/a//b":        "write /a/b",
		"https://example.com/./a":         "not clean",
		"https://example.com/a/%2e%2e/b":  "not clean",
		"https://example.com/a%2fb":       "slash",
		"https://example.com/a%5Cb":       "backslash",
		"https://example.com/a%252e":      "escaped",
		"https://example.com/a%3fb":       "escaped",
		"https://example.com/a%00":        "escaped",
		"https://example.com/a%ff":        "escaped",
		"*":                               "whole labels",
		"*.":                              "empty",
		"*.com":                           "anybody can register",
		"*.co.uk":                         "anybody can register",
		"*.github.io":                     "anybody can register",
		"*.s3.amazonaws.com":              "anybody can register",
		"*.localhost":                     "no wildcards",
		"*.127.0.0.1":                     "no wildcards",
		"*.*.example.com":                 "whole labels",
		"a.*.example.com":                 "whole labels",
		"foo*.example.com":                "whole labels",
		"exa mple.com":                    "does not occur",
		"example..com":                    "label is empty",
		".example.com":                    "label is empty",
		"127.1":                           "unusual spelling",
		"0x7f.0.0.1":                      "unusual spelling",
		"0x7f000001":                      "unusual spelling",
		"2130706433":                      "unusual spelling",
		"127.0.0.01":                      "unusual spelling",
		"１２７.1":                           "unusual spelling",
		"https://[fe80::1%25eth0]/":       "zone",
		"a_b.example.com":                 "underscore",
		"example.com\n":                   "does not occur",
		`regex:`:                          "matches no host",
		`regex:.*googleapis.*`:            "matches",
		`regex:.*googleapis\.com`:         "matches",
		`regex:.*githubusercontent\.com$`: "matches",
		`regex:foo|.*\.com`:               "matches",
		`regex:.*\.com`:                   "matches",
		`regex:\.com`:                     "matches",
		`regex:.*\.co\.uk`:                "matches",
		`regex:.*\.github\.io`:            "matches",
		`regex:.*\.example.com`:           "matches",
		`regex:.*.example\.com`:           "matches",
		`regex:.*\.example\.com(\.evil)?`: "matches",
		`regex:.*\.example\.com.*`:        "matches",
		`regex:.*\.example\.com?`:         "matches",
		`regex:.*\.example\.com|evil`:     "matches",
		`regex:api\.(foo|bar)\.com`:       "matches",
		`regex:(a\.foo\.com|a\.bar\.org)`: "matches",
		`regex:.*\.example\.[a-z]+`:       "matches",
		`regex:(?-s).*`:                   "matches",
		`regex:a)|(.*`:                    "not an RE2 expression",
		`regex:(`:                         "not an RE2 expression",
		`regex:(?=a)example\.com`:         "not an RE2 expression",
		`regex:\Qexample.com`:             "not an RE2 expression",
		`regex:münchen\.example\.com`:     "matches no host",
		`regex:(?-i)API\.EXAMPLE\.COM`:    "matches no host",
		`regex:127\.0\.0\.1`:              "matches",
		`regex:localhost`:                 "matches",
		"regex:foo\n|.*":                  "matches",
		`regex:(a{999}|b{999}|c{999}|d{999}|e{999})\.example\.com`: "repeats too much",
		"regex:" + strings.Repeat("a", 600):                        "longer than",
	} {
		p, err := provider.ParseHostURL(in)
		if err == nil {
			t.Errorf("ParseHostURL(%q) = %+v, want an error with %q", in, p, want)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("ParseHostURL(%q): %v, want an error with %q", in, err, want)
		}
	}
}

func TestMatchHost(t *testing.T) {
	for _, tc := range []struct {
		pattern, host string
		want          bool
	}{
		{"api.example.com", "api.example.com", true},
		{"api.example.com", "x.api.example.com", false},
		{"*.example.com", "a.example.com", true},
		{"*.example.com", "a.b.example.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "evilexample.com", false},
		{"*.example.com", "example.com.evil.org", false},
		{`regex:.*\.example\.com`, "a.example.com", true},
		{`regex:.*\.example\.com`, "a.example.com.evil.org", false},
		{`regex:.*\.example\.com`, "evilexample.com", false},
		{`regex:a\.example\.com|b\.example\.com`, "xb.example.com", false},
		{`regex:a\.example\.com|b\.example\.com`, "a.example.com.evil.org", false},
		{`regex:.*\.example\.com`, "evil.org\n.example.com\n", false},
	} {
		p, err := provider.ParseHostURL(tc.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.MatchHost(tc.host); got != tc.want {
			t.Errorf("%s matches %q: %v, want %v", tc.pattern, tc.host, got, tc.want)
		}
	}
}

// FuzzParseHostURL holds the law that a credential depends on: whatever host an
// accepted pattern matches is within the one domain that the pattern names.
func FuzzParseHostURL(f *testing.F) {
	for _, pattern := range []string{
		"api.example.com", "https://api.example.com:8443/v1", "*.example.com", `regex:.*\.example\.com`,
		`regex:(.*\.)?example\.com`, `regex:(a|b\.evil)\.example\.com`, `regex:(a\.example\.com|b\.example\.com)`,
		`regex:(foo\.example\.com)*`, `regex:.*googleapis.*`, `regex:(?i)x\.example\.com$|^y\.example\.com`,
		`regex:[^.]+\.example\.com`, `regex:\bexample\.com\b`, `regex:(?m)^a\.example\.com$`, `regex:.{1,9}\.example\.com`,
	} {
		for _, host := range []string{"a.example.com", "example.com", "evilexample.com", "a.example.com.evil.org", "foo.example.comfoo.example.com"} {
			f.Add(pattern, host)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, host string) {
		p, err := provider.ParseHostURL(pattern)
		if err != nil {
			return
		}
		again, err := provider.ParseHostURL(pattern)
		if err != nil || again.Suffix != p.Suffix || again.Host != p.Host {
			t.Fatalf("ParseHostURL(%q) is %+v and then %+v, %v", pattern, p, again, err)
		}
		if p.Port == 0 || strings.HasSuffix(p.PathPrefix, "/") {
			t.Fatalf("ParseHostURL(%q) = %+v", pattern, p)
		}
		if p.Kind != provider.Regex {
			if c, err := provider.CanonicalHost(p.Host); err != nil || c != p.Host {
				t.Fatalf("ParseHostURL(%q).Host = %q, which is not canonical (%q, %v)", pattern, p.Host, c, err)
			}
		}
		hosts := []string{host, p.Suffix, "evil" + p.Suffix, p.Suffix + ".evil.org", "a." + p.Suffix, "evil.org." + host, host + p.Suffix, host + "." + p.Suffix}
		for _, h := range hosts {
			h, err := provider.CanonicalHost(h)
			if err != nil || !p.MatchHost(h) {
				continue
			}
			domain := p.Host + p.Suffix // one of them is empty
			if h != domain && !strings.HasSuffix(h, "."+domain) {
				t.Fatalf("%q matches %q, which is not within %q", pattern, h, domain)
			}
		}
	})
}

// FuzzRegexSuffix builds expressions from pieces that are likely to matter, and
// samples hosts likewise: random bytes are hardly ever expressions.
func FuzzRegexSuffix(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, []byte{0, 1, 2})
	f.Add([]byte{5, 9, 4, 3, 10, 2, 3}, []byte{7, 1, 3, 2, 4})
	f.Add([]byte{11, 0, 12, 3, 13, 8, 3, 2}, []byte{5, 5, 1, 2, 3, 4, 0})
	f.Add([]byte{10, 2, 13, 7, 12, 11, 2, 3, 4}, []byte{3, 4})
	pieces := []string{`a`, `.`, `\.`, `example`, `\.com`, `.*`, `[a-z]`, `*`, `?`, `+`, `(`, `)?`, `|`, `)`, `com`, `^`, `$`, `(?i)`, `{0,2}`,
		`[^.]`, `\b`, `\n`, `[.a]`, `\.org`, `(?m)`, `example\.com`, `example\.org`, `x-`, `(?s)`, `\A`, `\z`, `()`}
	parts := []string{"a", ".", "example", ".com", "com", "x-", "b", ".org", "evil", "example.com", "example.org", "1"}
	f.Fuzz(func(t *testing.T, expression, host []byte) {
		var re, h strings.Builder
		for _, b := range expression[:min(len(expression), 24)] {
			re.WriteString(pieces[int(b)%len(pieces)])
		}
		for _, b := range host[:min(len(host), 24)] {
			h.WriteString(parts[int(b)%len(parts)])
		}
		p, err := provider.ParseHostURL("regex:" + re.String())
		if err != nil {
			return
		}
		for _, candidate := range []string{h.String(), h.String() + p.Suffix, h.String() + "." + p.Suffix, p.Suffix + h.String()} {
			c, err := provider.CanonicalHost(candidate)
			if err != nil {
				continue
			}
			if p.MatchHost(c) && c != p.Suffix && !strings.HasSuffix(c, "."+p.Suffix) {
				t.Fatalf("%q (suffix %q) matches %q", re.String(), p.Suffix, c)
			}
			// The wrapped expression means what the expression alone means.
			alone := regexp.MustCompile(`(?i)^(?:` + re.String() + `)$`)
			if p.MatchHost(c) != alone.MatchString(c) {
				t.Fatalf("%q and its anchored form differ on %q", re.String(), c)
			}
		}
	})
}
