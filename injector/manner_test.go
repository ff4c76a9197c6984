package injector_test

import (
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"authsome/injector"
	"authsome/provider"
	"authsome/vault/secret"
)

func TestManners(t *testing.T) {
	header := func(name, format string) provider.Inject {
		return provider.Inject{Manner: provider.MannerHeader, Name: name, Format: format}
	}
	query := func(name string) []provider.Inject {
		return []provider.Inject{{Manner: provider.MannerQuery, Name: name}}
	}
	for _, tt := range []struct {
		name    string
		injects []provider.Inject
		headers map[string]string
		cred    string
		url     string      // of the request; "" is a plain one
		have    http.Header // what the client sent
		want    http.Header
		wantURL string // "" is as it was, without userinfo
	}{
		{name: "bearer", injects: []provider.Inject{{Manner: provider.MannerBearer}}, cred: "tok",
			want: http.Header{"Authorization": {"Bearer tok"}}},
		{name: "bearer with a format", injects: []provider.Inject{{Manner: provider.MannerBearer, Format: "{credential.2}"}}, cred: "a:b",
			want: http.Header{"Authorization": {"Bearer b"}}},
		{name: "the client's values go, all of them", injects: []provider.Inject{{Manner: provider.MannerBearer}}, cred: "tok",
			have: http.Header{"Authorization": {"Bearer placeholder", "Basic eDp5"}, "Accept": {"*/*"}},
			want: http.Header{"Authorization": {"Bearer tok"}, "Accept": {"*/*"}}},
		{name: "userinfo goes", injects: []provider.Inject{{Manner: provider.MannerBearer}}, cred: "tok",
			url: "https://me:mine@h.test/p?q", want: http.Header{"Authorization": {"Bearer tok"}}, wantURL: "https://h.test/p?q"},
		{name: "header", injects: []provider.Inject{header("x-api-KEY", "")}, cred: "k",
			have: http.Header{"X-Api-Key": {"mine"}, "Authorization": {"own"}},
			want: http.Header{"X-Api-Key": {"k"}, "Authorization": {"own"}}},
		{name: "header with a format", injects: []provider.Inject{header("Authorization", "Token token={credential}, v={credential}")}, cred: "k",
			want: http.Header{"Authorization": {"Token token=k, v=k"}}},
		{name: "two headers from two halves", injects: []provider.Inject{header("DD-API-KEY", "{credential.1}"), header("DD-APPLICATION-KEY", "{credential.2}")},
			cred: "api:app:with:colons", have: http.Header{"Dd-Api-Key": {"x"}},
			want: http.Header{"Dd-Api-Key": {"api"}, "Dd-Application-Key": {"app:with:colons"}}},
		{name: "basic, the key as the user", injects: []provider.Inject{{Manner: provider.MannerBasic, Username: "{credential}"}}, cred: "sk_1",
			have: http.Header{"Authorization": {"Bearer mine"}},
			want: http.Header{"Authorization": {"Basic c2tfMTo="}}},
		{name: "basic from two halves", injects: []provider.Inject{{Manner: provider.MannerBasic, Username: "{credential.1}", Password: "{credential.2}"}},
			cred: "user:pass:word", want: http.Header{"Authorization": {"Basic dXNlcjpwYXNzOndvcmQ="}}},
		{name: "basic with a fixed user", injects: []provider.Inject{{Manner: provider.MannerBasic, Username: "api", Password: "{credential}"}},
			cred: "k:e:y", want: http.Header{"Authorization": {"Basic YXBpOms6ZTp5"}}},
		{name: "a template in the credential is text", injects: []provider.Inject{header("X", "{credential.1}|{credential.2}")}, cred: "{credential.2}:b",
			want: http.Header{"X": {"{credential.2}|b"}}},
		{name: "query", injects: query("key"), cred: "a b&c=d/é", url: "https://h.test/p",
			wantURL: "https://h.test/p?key=a+b%26c%3Dd%2F%C3%A9"},
		{name: "query keeps every other byte", injects: query("key"), cred: "s", url: "https://h.test/p?b=%7e&A&=&c=x+y%20z&b=2",
			wantURL: "https://h.test/p?b=%7e&A&=&c=x+y%20z&b=2&key=s"},
		{name: "query drops every spelling of its own", injects: query("key"), cred: "s",
			url:     "https://h.test/p?key=1&a=1&k%65y=2&%6bey&KEY=3;key=4&xkey=5&key",
			wantURL: "https://h.test/p?a=1&KEY=3;xkey=5&key=s"},
		{name: "query alone", injects: query("key"), cred: "s", url: "https://h.test/p?key=1", wantURL: "https://h.test/p?key=s"},
		{name: "query with nothing in it", injects: query("key"), cred: "s", url: "https://h.test/p?", wantURL: "https://h.test/p?key=s"},
		{name: "query with a name to escape", injects: query("api key"), cred: "s", url: "https://h.test/p?api+key=1&api%20key=2&apikey=3",
			wantURL: "https://h.test/p?apikey=3&api+key=s"},
		{name: "query keeps the client's header", injects: query("key"), cred: "s", have: http.Header{"Authorization": {"own"}}, url: "https://u@h.test/",
			want: http.Header{"Authorization": {"own"}}, wantURL: "https://h.test/?key=s"},
		{name: "header and query", injects: append(query("key"), header("X-Key", "")), cred: "s", url: "https://h.test/",
			want: http.Header{"X-Key": {"s"}}, wantURL: "https://h.test/?key=s"},
		{name: "static headers where the client has none", injects: []provider.Inject{{Manner: provider.MannerBearer}}, cred: "tok",
			headers: map[string]string{"notion-version": "2022-06-28", "Accept": "application/json"},
			have:    http.Header{"Accept": {"text/html"}},
			want:    http.Header{"Authorization": {"Bearer tok"}, "Notion-Version": {"2022-06-28"}, "Accept": {"text/html"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.url == "" {
				tt.url = "https://h.test/"
			}
			if tt.wantURL == "" {
				tt.wantURL = tt.url
			}
			if tt.want == nil {
				tt.want = http.Header{}
			}
			u, err := url.Parse(tt.url)
			if err != nil {
				t.Fatal(err)
			}
			r := &http.Request{Method: "GET", URL: u, Header: tt.have.Clone()}
			if r.Header == nil {
				r.Header = http.Header{}
			}
			m, err := injector.NewModifier(tt.injects, tt.headers, secret.New(tt.cred))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // again must change nothing more
				if err := m.ModifyRequest(r); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(r.Header, tt.want) {
					t.Errorf("got %v, want %v", r.Header, tt.want)
				}
				if got := r.URL.String(); got != tt.wantURL {
					t.Errorf("got %s, want %s", got, tt.wantURL)
				}
			}
		})
	}
}

// A credential that would change the shape of the request is not attached.
func TestCredentialsOfAnotherShape(t *testing.T) {
	basic := provider.Inject{Manner: provider.MannerBasic, Username: "{credential}"}
	halves := provider.Inject{Manner: provider.MannerBasic, Username: "{credential.1}", Password: "{credential.2}"}
	bearer := provider.Inject{Manner: provider.MannerBearer}
	header := provider.Inject{Manner: provider.MannerHeader, Name: "X-Key"}
	for _, tt := range []struct {
		name string
		in   provider.Inject
		cred string
	}{
		{"line break in a bearer token", bearer, "a\r\nX-Evil: 1"},
		{"line feed alone", header, "a\nb"},
		{"carriage return alone", header, "a\rb"},
		{"NUL", header, "a\x00b"},
		{"DEL", header, "a\x7fb"},
		{"line break at the end", header, "a\n"},
		{"a user name with a colon", basic, "user:pass"},
		{"a control character in Basic", halves, "user:pa\nss"},
		{"halves of what has none", halves, "whole"},
		{"second half of what has none", provider.Inject{Manner: provider.MannerQuery, Name: "k", Format: "{credential.2}"}, "whole"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := injector.NewModifier([]provider.Inject{tt.in}, nil, secret.New(tt.cred))
			if !errors.Is(err, injector.ErrCredentialShape) {
				t.Errorf("got %v, want ErrCredentialShape", err)
			}
			if err != nil && strings.Contains(err.Error(), tt.cred) {
				t.Errorf("the error quotes the credential: %v", err)
			}
		})
	}
	for name, in := range map[string]provider.Inject{
		"unknown manner": {Manner: "digest"}, "header name with a space": {Manner: provider.MannerHeader, Name: "X Key"},
		"no header name": {Manner: provider.MannerHeader}, "header name with a line break": {Manner: provider.MannerHeader, Name: "X\r\nY"},
	} {
		if _, err := injector.NewModifier([]provider.Inject{in}, nil, secret.New("s")); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// FuzzQuery holds that a query manner leaves exactly one value of its
// parameter, whatever the client wrote and however the origin splits.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "key=1", "a=1&key=2", "k%65y=1", "a;key=1", "key", "key&&key;;=", "%zz=1&key=%zz", "a=b&c", "+key=1", "key[]=1", "&&a"} {
		f.Add(seed)
	}
	m, err := injector.NewModifier([]provider.Inject{{Manner: provider.MannerQuery, Name: "key"}}, nil, secret.New("s+s"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		r := &http.Request{URL: &url.URL{Path: "/", RawQuery: raw}, Header: http.Header{}}
		if err := m.ModifyRequest(r); err != nil {
			t.Fatal(err)
		}
		for _, split := range []string{"&", "&;"} {
			found := 0
			for _, pair := range strings.FieldsFunc(r.URL.RawQuery, func(c rune) bool { return strings.ContainsRune(split, c) }) {
				name, value, _ := strings.Cut(pair, "=")
				if name, err := url.QueryUnescape(name); err == nil && name == "key" {
					found++
					if got, _ := url.QueryUnescape(value); got != "s+s" {
						t.Fatalf("%q became %q", raw, r.URL.RawQuery)
					}
				}
			}
			if found != 1 {
				t.Fatalf("%q became %q, which holds %d values for who splits at %q", raw, r.URL.RawQuery, found, split)
			}
		}
	})
}
