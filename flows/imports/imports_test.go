package imports_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"authsome/flows/imports"
	"authsome/provider"
	"authsome/vault/secret"
)

func TestParseEnv(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{"A=1", "A:1=1"},
		{"A=1\nB=2\n", "A:1=1 B:2=2"},
		{"\ufeffA=1\r\nB=2\r\n", "A:1=1 B:2=2"},
		{"# comment\n\nexport A = 1 \n", "A:3=1"},
		{"A=1 # why\nB=1#2\nC=#x", "A:1=1 B:2=1#2 C:3="},
		{"A='a b $C \\n'\nB=x", "A:1=a b $C \\n B:2=x"},
		{`A="a\nb\"c\\d\te\$f"`, "A:1=a\nb\"c\\d\te$f"},
		{"A=\"one\ntwo\"\nB=3", "A:1=one\ntwo B:3=3"},
		{"A='one\ntwo' # why\nB=3", "A:1=one\ntwo B:3=3"},
		{"A='unfinished\nB=2", "A:1='unfinished B:2=2"},
		{"no assignment\n1A=x\nA-B=x\n=x\nA B=x\nC=y", "C:6=y"},
		{"A=$B\nC=${D}x\nE=$(cmd)\nF='${G}'\nH=op://vault/item\nI=`cmd`", "A:1=$B! C:2=${D}x! E:3=$(cmd)! F:4=${G} H:5=op://vault/item! I:6=`cmd`!"},
		{"A=\nB=''\nC=\"\"", "A:1= B:2= C:3="},
		{"A==x==", "A:1==x=="},
	} {
		var got []string
		for _, v := range imports.ParseEnv([]byte(tc.text)) {
			s := fmt.Sprintf("%s:%d=%s", v.Name, v.Line, v.Value.Reveal())
			if v.Computed {
				s += "!"
			}
			got = append(got, s)
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%q:\ngot  %q\nwant %q", tc.text, s, tc.want)
		}
	}
}

// FuzzParseEnv holds the law that a value which was quoted is read back.
func FuzzParseEnv(f *testing.F) {
	for _, seed := range []string{"", "plain", "two words", "it's", `a"b\c`, "line\nbreak", "#", "$HOME", "é☃", "\x00", "'", "\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		value = strings.ReplaceAll(value, "\r\n", "\n") // is one line end to every reader
		text := "A=1\nNAME=\"" + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + "\"\nZ=2"
		vars := imports.ParseEnv([]byte(text))
		if len(vars) != 3 || vars[1].Name != "NAME" || vars[1].Value.Reveal() != value || vars[2].Name != "Z" ||
			vars[2].Line != strings.Count(text, "\n")+1 {
			t.Errorf("%q read as %+v", text, vars)
		}
		imports.ParseEnv([]byte(value)) // whatever it is
	})
}

func index(t *testing.T, custom ...string) *imports.Index {
	t.Helper()
	entries := provider.Bundled().All()
	for _, text := range custom {
		d, err := provider.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, &provider.Entry{Definition: d, Source: "custom"})
	}
	return imports.NewIndex(entries)
}

func variable(name, value string) imports.Var {
	return imports.ParseEnv([]byte(name + "=" + value))[0]
}

const (
	long   = "0123456789abcdefghijklmnopqrstuvwxyzABCD"
	openai = "sk-proj-" + long
)

func TestMatch(t *testing.T) {
	ix := index(t, `{"schema_version":1,"name":"acme","display_name":"Acme","auth_type":"api_key","flow":"api_key","host_url":"api.acme.test",
		"api_key":{"env_var":"ACME_KEY","key_pattern":"acme_[a-z0-9]+"},"export":{"env":{"api_key":"TAVILY_API_KEY"}}}`)
	for _, tc := range []struct{ name, value, want string }{
		{"OPENAI_API_KEY", openai, "openai api_key variable"},
		{"OPENAI_API_KEY", "whatever-its-shape", "openai api_key variable"},
		{"SOME_KEY", openai, "openai api_key shape"},
		{"SOME_KEY", "sk-ant-api03-" + long, "anthropic api_key shape"}, // also of OpenAI's shape
		{"SOME_KEY", "sk-or-v1-" + strings.Repeat("0123456789abcdef", 4), "openrouter api_key shape"},
		{"SOME_KEY", "ghp_" + long[:36], "github access_token shape"},
		{"SOME_KEY", "github_pat_" + long, "github access_token shape"},
		{"SOME_KEY", "xoxb-123456789012-" + long, "slack access_token shape"},
		{"SOME_KEY", "sk_live_" + long, "stripe api_key shape"},
		{"SOME_KEY", "AIza" + long[:35], "gemini api_key shape"},
		{"SOME_KEY", "r8_" + long, "replicate api_key shape"},
		{"SOME_KEY", "SG." + long + "." + long, "sendgrid api_key shape"},
		{"SOME_KEY", "acme_1234567890", "acme api_key shape"},
		{"TAVILY_API_KEY", "tvly-" + long, "acme api_key variable"}, // the custom definition's claim
		{"GITHUB_TOKEN", "0123456789abcdef", "github access_token variable"},
		{"GITHUB_CLIENT_SECRET", "0123456789abcdef", "github client_secret variable"},
		{"TWILIO_AUTH_TOKEN", "0123456789abcdef0123456789abcdef", "twilio api_key variable"},
		{"DATABASE_URL", "postgres://me:secret@db/x", ""},
		{"EMAIL", "me@example.org:" + long, ""}, // what jira's pattern takes begins with nothing telling
		{"PATH", "/usr/bin", ""},
		{"OPENAI_API_KEY", "", ""},
		{"OPENAI_API_KEY", "short", ""},
		{"OPENAI_API_KEY", "sk-authsome-proxy-managed", ""},
		{"OPENAI_API_KEY", "authsome-proxy-managed", ""},
		{"OPENAI_API_KEY", "your-api-key-here", ""},
		{"OPENAI_API_KEY", "<paste it here>", ""},
		{"OPENAI_API_KEY", "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxx", ""},
		{"OPENAI_API_KEY", "changeme", ""},
		{"OPENAI_API_KEY", "${OTHER}", ""},
		{"OPENAI_API_KEY", "$(pass show openai)", ""},
		{"OPENAI_API_KEY", "op://vault/openai/key", ""},
	} {
		got := ""
		if m, ok := ix.Match(variable(tc.name, tc.value)); ok {
			got = fmt.Sprint(m.Provider, " ", m.Kind, " ", m.By)
		}
		if got != tc.want {
			t.Errorf("%s=%s: %q, want %q", tc.name, tc.value, got, tc.want)
		}
	}
}

// TestPlaceholdersAreNoSecrets holds that what a child of run sees is never
// taken for a key.
func TestPlaceholdersAreNoSecrets(t *testing.T) {
	ix := index(t)
	for _, e := range provider.Bundled().All() {
		seen := e.Placeholders()
		seen["SOME_KEY"] = e.Placeholder()
		for name, value := range seen {
			if m, ok := ix.Match(variable(name, value)); ok {
				t.Errorf("%s: its placeholder in %s counts as %+v", e.Name, name, m)
			}
		}
	}
}

func TestFromEnv(t *testing.T) {
	text := `OPENAI_API_KEY=` + openai + `1
export OPENAI_API_KEY=` + openai + `2
GITHUB_TOKEN='gho_` + long + `'
TWILIO_ACCOUNT_SID=AC0123456789abcdef0123456789abcdef
TWILIO_AUTH_TOKEN=fedcba9876543210fedcba9876543210
DD_API_KEY=0123456789
GITHUB_CLIENT_SECRET=` + long + `
ANTHROPIC_API_KEY=
PORT=8080
`
	found, skipped := index(t).FromEnv(imports.ParseEnv([]byte(text)))
	var got []string
	for _, f := range found {
		got = append(got, fmt.Sprintf("%s %s:%d %s%s", f.Provider, f.Variable, f.Line, f.APIKey.Reveal(), f.AccessToken.Reveal()))
	}
	want := []string{
		"twilio TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN:5 AC0123456789abcdef0123456789abcdef:fedcba9876543210fedcba9876543210",
		"openai OPENAI_API_KEY:2 " + openai + "2",
		"github GITHUB_TOKEN:3 gho_" + long,
		"datadog DD_API_KEY:6 0123456789",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	got = nil
	for _, s := range skipped {
		got = append(got, fmt.Sprintf("%s %s:%d", s.Provider, s.Variable, s.Line))
	}
	if want := []string{"github GITHUB_CLIENT_SECRET:7", "anthropic ANTHROPIC_API_KEY:8"}; !slices.Equal(got, want) {
		t.Errorf("skipped %q, want %q", got, want)
	}
}

const hosts = `github.com:
    git_protocol: https
    users:
        ada:
            oauth_token: gho_ada
        Grace_H:
            oauth_token: gho_grace
        kept-elsewhere:
    oauth_token: gho_ada
    user: ada
ghe.corp.example:
    oauth_token: ghe_corp
    user: ada
    git_protocol: ssh
old.example:
    user: eve
    oauth_token: from_before_2_40
"not a host!":
    oauth_token: x
`

func TestFromGH(t *testing.T) {
	asked := ""
	found, skipped, err := imports.FromGH([]byte(hosts), func(host, user string) (secret.Text, error) {
		asked += host + "/" + user + " "
		return secret.Text{}, imports.ErrNoToken
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, strings.Join([]string{f.Provider, f.Connection, f.BaseURL, f.Account.Label, f.AccessToken.Reveal(), f.Where}, "|"))
	}
	want := []string{
		"github|ghe.corp.example|https://ghe.corp.example|ada|ghe_corp|ghe.corp.example, account ada",
		"github|||ada|gho_ada|github.com, account ada",
		"github|Grace_H||Grace_H|gho_grace|github.com, account Grace_H",
		"github|old.example|https://old.example|eve|from_before_2_40|old.example, account eve",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if asked != "github.com/kept-elsewhere " || len(skipped) != 2 {
		t.Errorf("asked %q, skipped %+v", asked, skipped)
	}
	found, _, err = imports.FromGH([]byte("github.com:\n  user: ada\n"), func(host, user string) (secret.Text, error) {
		return secret.New(host + user), nil
	})
	if err != nil || len(found) != 1 || found[0].AccessToken.Reveal() != "github.comada" {
		t.Errorf("from the credential store: %+v, %v", found, err)
	}
	const canary = "gho_canary"
	for _, bad := range []string{"github.com: [" + canary, "github.com: " + canary, "- " + canary, "github.com:\n\toauth_token: " + canary} {
		found, _, err := imports.FromGH([]byte(bad), nil)
		if !errors.Is(err, imports.ErrFormat) || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: got %+v, %v", bad, found, err)
		}
	}
	if found, skipped, err := imports.FromGH(nil, nil); len(found)+len(skipped) > 0 || err != nil {
		t.Errorf("empty file: %v", err)
	}
}

func TestFromGcloud(t *testing.T) {
	got, err := imports.FromGcloud([]byte(`{"account":"ada@example.org","client_id":"id.apps","client_secret":"s","quota_project_id":"p",
		"refresh_token":"1//r","type":"authorized_user","universe_domain":"googleapis.com"}`))
	if err != nil || got.Provider != "google" || got.RefreshToken.Reveal() != "1//r" || got.ClientID != "id.apps" || got.ClientSecret.Reveal() != "s" ||
		got.Account.Label != "ada@example.org" || !got.AccessToken.IsZero() || got.KeepClient {
		t.Errorf("got %+v, %v", got, err)
	}
	for text, want := range map[string]error{
		`{"type":"service_account","private_key":"canary"}`:                                                         imports.ErrNothing,
		`{"type":"authorized_user","client_id":"x"}`:                                                                imports.ErrFormat,
		`{"type":"authorized_user","client_id":"x","refresh_token":"canary","universe_domain":"elsewhere.example"}`: imports.ErrNothing,
		`{"type":"authorized_user","refresh_token":"canary"`:                                                        imports.ErrFormat,
		`{"type":"authorized_user","refresh_token":{"canary":1}}`:                                                   imports.ErrFormat,
		`not JSON canary`: imports.ErrFormat,
	} {
		f, err := imports.FromGcloud([]byte(text))
		if !errors.Is(err, want) || !reflect.DeepEqual(f.ClientID, "") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %+v, %v", text, f, err)
		}
	}
}

func TestFromAWS(t *testing.T) {
	found, skipped, err := imports.FromAWS([]byte(`# of the CLI
[default]
aws_access_key_id = AKIADEFAULT
AWS_SECRET_ACCESS_KEY=a/b+c==
region = eu-west-1

[ at work! ]
  aws_access_key_id=AKIAWORK
  aws_secret_access_key= canary
; a role's
[sso]
aws_access_key_id = ASIATEMP
aws_secret_access_key = canary
aws_session_token = canary
[role]
role_arn = arn:aws:iam::1:role/x
`))
	if err != nil || len(found) != 2 || len(skipped) != 2 {
		t.Fatalf("got %d found, %d skipped, %v", len(found), len(skipped), err)
	}
	if f := found[0]; f.Provider != "aws" || f.Connection != "" || f.Line != 2 || f.APIKey.Reveal() != "AKIADEFAULT:a/b+c==" {
		t.Errorf("default: got %+v", f)
	}
	if f := found[1]; f.Connection != "at-work-" || f.Where != "profile at work!" || f.APIKey.Reveal() != "AKIAWORK:canary" {
		t.Errorf("another: got %+v", f)
	}
	if skipped[0].Reason != "its credentials are temporary" || skipped[1].Reason != "it has no access key" || skipped[1].Where != "profile role" {
		t.Errorf("skipped %+v", skipped)
	}
	for text, want := range map[string]error{"": imports.ErrNothing, "aws_secret_access_key = canary": imports.ErrFormat, "[canary": imports.ErrFormat} {
		if _, _, err := imports.FromAWS([]byte(text)); !errors.Is(err, want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}
