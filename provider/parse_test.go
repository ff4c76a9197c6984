package provider_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"authsome/provider"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParse(t *testing.T) {
	d := mustParse(t, `{
		"schema_version": 1, "name": "acme", "display_name": "Acme", "auth_type": "oauth2", "flow": "pkce",
		"host_url": ["api.acme.com", "{base_url}/api"],
		"oauth": {"base_url": "https://acme.com", "authorization_url": "{base_url}/authorize?x=1", "token_url": "{base_url}/token",
			"scopes": ["a", "b"], "scope_separator": ",", "pkce": false, "authorize_params": {"prompt": "consent"}, "token_auth_method": "client_secret_basic"},
		"inject": {"manner": "header", "name": "X-Token"},
		"headers": {"Acme-Version": "2"},
		"client": {"client_id_env": "ACME_ID"}, "export": {"env": {"access_token": "ACME_TOKEN"}},
		"docs": "https://acme.com/keys#here", "metadata": {"any": [1, 2]}
	}`)
	want := &provider.Definition{
		SchemaVersion: 1, Name: "acme", DisplayName: "Acme", AuthType: provider.AuthOAuth2, Flow: provider.FlowPKCE,
		HostURL: []string{"api.acme.com", "{base_url}/api"},
		OAuth: &provider.OAuth{BaseURL: "https://acme.com", AuthorizationURL: "{base_url}/authorize?x=1", TokenURL: "{base_url}/token",
			Scopes: []string{"a", "b"}, ScopeSeparator: ",", AuthorizeParams: map[string]string{"prompt": "consent"}, TokenAuthMethod: "client_secret_basic"},
		Inject:  []provider.Inject{{Manner: "header", Name: "X-Token"}},
		Headers: map[string]string{"Acme-Version": "2"},
		Client:  provider.Client{ClientIDEnv: "ACME_ID"}, Export: provider.Export{Env: map[string]string{"access_token": "ACME_TOKEN"}},
		Docs: "https://acme.com/keys#here", Metadata: map[string]json.RawMessage{"any": json.RawMessage("[1, 2]")},
	}
	if diff := cmp.Diff(want, d, unexported); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
}

var unexported = cmpopts.IgnoreUnexported(provider.Definition{}, provider.OAuth{}, provider.APIKey{}, provider.Inject{}, provider.Client{}, provider.Export{})

func TestParseDefaults(t *testing.T) {
	if d := mustParse(t, oauthBase); !d.OAuth.PKCE {
		t.Error("a definition that does not say pkce: got false, want true")
	}
	for text, want := range map[string]string{
		`{}`:                        "Bearer {credential}",
		`{"header_prefix":null}`:    "{credential}",
		`{"header_prefix":""}`:      "{credential}",
		`{"header_prefix":"Token"}`: "Token {credential}",
	} {
		d := mustParse(t, with(t, apiKeyBase, map[string]any{"api_key": json.RawMessage(text)}))
		if got := d.Injects()[0].Format; got != want {
			t.Errorf("api_key %s: format %q, want %q", text, got, want)
		}
	}
}

func TestParseSyntaxErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		in           string
		line, column int
		msg          string
	}{
		"empty":         {"", 1, 1, "JSON"},
		"truncated":     {"{\n  \"name\": \"acme\",\n", 3, 1, "JSON"},
		"comma":         {"{\n  \"name\": \"acme\",,\n}", 2, 18, "JSON"},
		"trailing":      {"{}\n{}", 2, 1, "JSON"},
		"comment":       {"{\n// no\n}", 2, 1, "JSON"},
		"single quotes": {"{'name': 1}", 1, 2, "JSON"},
		"not UTF-8":     {"{\n\"name\": \"\xff\"}", 2, 10, "UTF-8"},
		"too large":     {`{"name":"` + strings.Repeat("x", 1<<20) + `"}`, 0, 0, "larger"},
	} {
		_, err := provider.Parse([]byte(tc.in))
		all := problems(t, err)
		if e := all[0]; len(all) != 1 || e.Line != tc.line || e.Column != tc.column || !strings.Contains(e.Msg, tc.msg) || e.Fix == "" {
			t.Errorf("%s: %+v (line %d column %d), want line %d column %d and %q", name, all, e.Line, e.Column, tc.line, tc.column, tc.msg)
		}
	}
}

func TestParseReportsAll(t *testing.T) {
	_, err := provider.Parse([]byte(`{
  "schema_version": 2,
  "name": "acme",
  "display_name": "Acme",
  "auth_type": "oauth2",
  "flow": "pkce",
  "host_url": ["api.acme.com", "http://acme.com"],
  "oauth": {
    "authorization_url": "ftp://acme.com",
    "scopes": ["a b"]
  },
  "headers": {"Content-Length": "1"}
}`))
	type found struct {
		Path string
		Line int
	}
	var got []found
	for _, e := range problems(t, err) {
		got = append(got, found{e.Path, e.Line})
		if e.Fix == "" {
			t.Errorf("%s: no fix", e)
		}
		if !strings.Contains(e.Error(), e.Path) || !strings.Contains(e.Error(), e.Fix) || e.Hint() == "" {
			t.Errorf("error %q, hint %q; want path and fix in it", e, e.Hint())
		}
	}
	want := []found{{"schema_version", 2}, {"host_url[1]", 7}, {"oauth.token_url", 8}, {"oauth.authorization_url", 9}, {"oauth.scopes[0]", 10}, {"headers.Content-Length", 12}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	var first *provider.Error
	if !errors.As(err, &first) || first.Path != "schema_version" {
		t.Errorf("errors.As: %v", first)
	}
}

func TestParseWrongTypes(t *testing.T) {
	for path, value := range map[string]string{
		"schema_version": `"1"`, "name": `1`, "display_name": `["a"]`, "auth_type": `{}`, "flow": `true`,
		"host_url": `{"a":1}`, "api_key": `"x"`, "api_key.key_pattern": `5`, "api_key.header_prefix": `5`, "inject": `"bearer"`,
		"inject.manner": `5`, "headers": `["a"]`, "headers.X-A": `5`, "client": `[]`, "export": `"A"`, "export.env": `"A"`,
		"docs": `[]`, "metadata": `[]`, "oauth": `[]`, "oauth.pkce": `"yes"`, "oauth.scopes": `"a b"`, "oauth.authorize_params": `"a"`,
	} {
		text := with(t, apiKeyBase, map[string]any{path: json.RawMessage(value)})
		_, err := provider.Parse([]byte(text))
		found := false
		for _, e := range problems(t, err) {
			found = found || e.Path == path && strings.Contains(e.Fix, "write ")
		}
		if !found {
			t.Errorf("%s = %s: %v, want an error at that path", path, value, err)
		}
	}
	for in, want := range map[string]string{
		`[]`:                       "the document is a list",
		`null`:                     "the document is null",
		`"x"`:                      "the document is a string",
		`{"host_url":["a.b",5]}`:   "host_url[1]: is the number 5",
		`{"host_url":[null]}`:      "host_url: is null",
		`{"inject":[5]}`:           "inject[0]: is the number 5",
		`{"headers":{"a b":null}}`: `headers["a b"]: is null`,
	} {
		if _, err := provider.Parse([]byte(in)); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(want, ": is null")) {
			t.Errorf("Parse(%s): %v, want %q", in, err, want)
		}
	}
}

func TestParseRejectsRepeatedAndMiscasedKeys(t *testing.T) {
	text := strings.Replace(apiKeyBase, `"api_key":{}`, `"api_key":{"env_var":"A","env_var":"B"},"Inject":{"manner":"bearer"},"host_url":"evil.example.com"`, 1)
	_, err := provider.Parse([]byte(text))
	for _, want := range []string{"api_key.env_var: is there twice", "host_url: is there twice", "Inject: is not a field; write inject"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse: %v, want %q", err, want)
		}
	}
}

func TestNullIsAbsent(t *testing.T) {
	text := with(t, apiKeyBase, map[string]any{"oauth": json.RawMessage("null"), "docs": json.RawMessage("null"), "inject": json.RawMessage("null"),
		"headers": json.RawMessage("null"), "client": json.RawMessage("null"), "export": json.RawMessage("null"), "metadata": json.RawMessage("null")})
	got, _ := json.Marshal(mustParse(t, text))
	want, _ := json.Marshal(mustParse(t, apiKeyBase))
	if !bytes.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestUnknownFieldsSurvive(t *testing.T) {
	d := mustParse(t, `{"schema_version":1,"name":"acme","display_name":"Acme <&>","auth_type":"oauth2","flow":"pkce","host_url":"api.acme.com",
		"x_top":{"n":1.0,"big":123456789012345678901234567890,"u":"<&>"},
		"oauth":{"issuer":"https://acme.com","x_oauth":[1]},"api_key":{"x_key":null},
		"inject":[{"manner":"bearer","x_inject":"i"}],"client":{"x_client":true},"export":{"x_export":0},
		"source":"bundled","connections":[]}`)
	text, err := d.Indented()
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	got := compact.String()
	for _, want := range []string{`"x_top":{"n":1.0,"big":123456789012345678901234567890,"u":"<&>"}`, `"x_oauth":[1]`, `"x_key":null`, `"x_inject":"i"`, `"x_client":true`, `"x_export":0`, `"Acme <&>"`} {
		if !strings.Contains(got, want) {
			t.Errorf("marshalled %s\nlacks %s", got, want)
		}
	}
	for _, not := range []string{`"source"`, `"connections"`} {
		if strings.Contains(got, not) {
			t.Errorf("marshalled %s\nhas %s, which belongs to inspect", got, not)
		}
	}
}

func TestUnmarshalJSON(t *testing.T) {
	var d provider.Definition
	if err := json.Unmarshal([]byte(apiKeyBase), &d); err != nil || d.Name != "acme" {
		t.Errorf("Unmarshal: %v, %+v", err, d)
	}
	if err := json.Unmarshal([]byte(`{"name":"acme"}`), &d); err == nil {
		t.Error("Unmarshal of an invalid definition: no error")
	}
}

// FuzzParse holds the law parse → print → parse: what is printed parses, and
// prints alike.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("definitions/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(apiKeyBase))
	f.Add([]byte(`{"schema_version":1,"name":"a","display_name":"a","auth_type":"api_key","flow":"api_key","host_url":["a.b"],"api_key":{"header_prefix":null,"x":1e9},"headers":{},"inject":[],"client":{},"":0}`))
	f.Add([]byte(`{"name":"a","name":"b"`))
	f.Add([]byte("\xef\xbb\xbf{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := provider.Parse(data)
		if err != nil {
			for _, e := range problems(t, err) {
				if e.Msg == "" || e.Fix == "" || strings.Contains(e.Error(), "\n") && !bytes.Contains(data, []byte("\\n")) {
					t.Fatalf("error %q of %q", e, data)
				}
			}
			return
		}
		if err := d.Validate(); err != nil {
			t.Fatalf("Validate after Parse: %v", err)
		}
		first, err := d.Indented()
		if err != nil {
			t.Fatal(err)
		}
		again, err := provider.Parse(first)
		if err != nil {
			t.Fatalf("Parse of what was printed: %v\n%s", err, first)
		}
		second, err := again.Indented()
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("printed twice: %v\n%s\n%s", err, first, second)
		}
		base := d.DefaultBaseURL()
		if base == "" {
			base = "https://base.example"
		}
		if hosts, err := d.Routes(base); err == nil {
			for _, h := range hosts {
				if _, err := provider.ParseHostURL(h); err != nil {
					t.Fatalf("Routes(%q) has %q: %v", base, h, err)
				}
			}
		}
		if p := d.Placeholder(); p == "" || len(p) > 512 {
			t.Fatalf("placeholder %q", p)
		}
	})
}
