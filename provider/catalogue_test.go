package provider_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"authsome/provider"
)

// catalogue is every provider that has to be bundled.
const catalogue = `ahrefs apollo ashby atlassian beehiiv brevo buffer calendly clearbit discord dub g2 github gitlab google hubspot
	hunter instantly intercom keywords-everywhere klaviyo-oauth klaviyo lemlist linear livestorm mailchimp mention-me microsoft
	notion openai optimizely postiz postmark resend rewardful savvycal semrush sendgrid slack tolt typeform wistia x zapier
	anthropic stripe tavily serpapi openrouter mistral groq deepseek perplexity cohere huggingface replicate elevenlabs gemini
	supabase cloudflare vercel netlify datadog sentry pagerduty airtable figma twilio jira confluence aws`

func TestBundledDefinitions(t *testing.T) {
	files, err := filepath.Glob("definitions/*.json")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d, err := provider.Parse(data)
		if err != nil {
			t.Errorf("%s:\n%v", file, err)
			continue
		}
		names = append(names, d.Name)
		if want := d.Name + ".json"; filepath.Base(file) != want {
			t.Errorf("%s defines %s", file, d.Name)
		}
		printed, err := d.Indented()
		if err != nil || !bytes.Equal(printed, data) {
			t.Errorf("%s is not as authsome prints it (%v)", file, err)
		}
		checkEntry(t, d)
	}
	want := strings.Fields(catalogue)
	slices.Sort(want)
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Errorf("bundled %q\nwant    %q", names, want)
	}
	if got := provider.Bundled().Names(); !slices.Equal(got, want) {
		t.Errorf("embedded %q\nwant     %q", got, want)
	}
}

// checkEntry holds what is expected of a bundled definition beyond validity.
func checkEntry(t *testing.T, d *provider.Definition) {
	t.Helper()
	fields, variable := []string{"access_token"}, d.Client.ClientIDEnv
	if d.AuthType == provider.AuthAPIKey {
		fields, variable = []string{"api_key"}, d.APIKey.EnvVar
		if inPair(d) {
			fields = []string{provider.FirstOfKey, provider.SecondOfKey}
		}
	}
	if d.Name == "twilio" { // its first half may be the SID of an account or of a key, which are not one variable
		fields = fields[1:]
	}
	if got := slices.Sorted(maps.Keys(d.Export.Env)); !slices.Equal(got, fields) {
		t.Errorf("%s: export.env has %q, want %q", d.Name, got, fields)
	}
	if variable == "" {
		t.Errorf("%s: no variable for the login", d.Name)
	}
	if !strings.HasPrefix(d.Docs, "https://") {
		t.Errorf("%s: docs %q", d.Name, d.Docs)
	}
	verification, source := text(d, "verification"), text(d, "source")
	if !slices.Contains([]string{"documented", "third_party", "unchecked"}, verification) {
		t.Errorf("%s: verification %q", d.Name, verification)
	}
	if (verification == "unchecked") != (source == "") {
		t.Errorf("%s: verification %q with source %q", d.Name, verification, source)
	}
	if d.OAuth == nil {
		return
	}
	for _, u := range d.OwnEndpoints() {
		if d.OAuth.BaseURL != "" && !strings.HasPrefix(u, provider.BaseURLTemplate) {
			t.Errorf("%s: %s gets tokens of self-managed instances", d.Name, u)
		}
	}
	r, err := d.Resolve("")
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range r.OwnEndpoints() {
		parsed, err := url.Parse(u)
		if err != nil || parsed.RawQuery != "" {
			t.Errorf("%s: endpoint %s: %v", d.Name, u, err)
			continue
		}
		if _, err := provider.ParseHostURL(u); err != nil {
			t.Errorf("%s: endpoint %s cannot be kept from injection: %v", d.Name, u, err)
		}
	}
}

// inPair reports whether a definition attaches the halves of its credential, each
// in its own place.
func inPair(d *provider.Definition) bool {
	return slices.ContainsFunc(d.Inject, func(in provider.Inject) bool {
		return strings.Contains(in.Format+in.Username, provider.FirstTemplate) || in.Manner == provider.MannerSigV4
	})
}

// claim is what two routes have to share to tie.
func claim(p provider.HostPattern) string {
	host := p.Host
	if p.Kind == provider.Regex {
		host = p.Raw
	}
	return fmt.Sprint(p.Kind, " ", host, ":", p.Port, p.PathPrefix)
}

func TestNoAccidentalTies(t *testing.T) {
	const site = "https://site.example.com" // all per-site providers on one site
	owners := map[string][]string{}
	for _, e := range provider.Bundled().All() {
		base := ""
		if e.NeedsBaseURL() && e.DefaultBaseURL() == "" {
			base = site
		}
		hosts, err := e.Routes(base)
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		for _, h := range hosts {
			p, err := provider.ParseHostURL(h)
			if err != nil {
				t.Errorf("%s: %v", e.Name, err)
				continue
			}
			if owner := owners[claim(p)]; len(owner) == 0 || owner[len(owner)-1] != e.Name {
				owners[claim(p)] = append(owners[claim(p)], e.Name)
			} else {
				t.Errorf("%s claims %s twice", e.Name, claim(p))
			}
		}
	}
	deliberate := map[string]bool{}
	for where, names := range owners {
		for _, a := range names {
			for _, b := range names {
				if a == b {
					continue
				}
				e, _ := provider.Bundled().Lookup(a)
				if !slices.Contains(sameHostAs(e.Definition), b) {
					t.Errorf("%s and %s both claim %s", a, b, where)
				}
				deliberate[a+" "+b] = true
			}
		}
	}
	for _, e := range provider.Bundled().All() {
		for _, other := range sameHostAs(e.Definition) {
			if !deliberate[e.Name+" "+other] {
				t.Errorf("%s says that it shares a host with %s, and does not", e.Name, other)
			}
		}
	}
	if len(deliberate) != 2 {
		t.Errorf("deliberate ties %v, want klaviyo and klaviyo-oauth only", deliberate)
	}
}

// find returns the inject and the route entry that serve a host and path, the
// longest prefix first, and "" when the credential must not go there.
func find(t *testing.T, name, base, host, path string) string {
	t.Helper()
	e, err := provider.Bundled().Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := e.Routes(base)
	if err != nil {
		t.Fatal(err)
	}
	r, err := e.Resolve(base)
	if err != nil {
		t.Fatal(err)
	}
	best, longest := "", -1
	for _, h := range hosts {
		p, err := provider.ParseHostURL(h)
		if err != nil {
			t.Fatal(err)
		}
		under := p.PathPrefix == "" || path == p.PathPrefix || strings.HasPrefix(path, p.PathPrefix+"/")
		if c, err := provider.CanonicalHost(host); err == nil && p.MatchHost(c) && under && len(p.PathPrefix) > longest {
			best, longest = h, len(p.PathPrefix)
		}
	}
	if longest < 0 {
		return ""
	}
	var out []string
	for _, in := range provider.InjectsFor(r.Injects(), best) {
		out = append(out, strings.Trim(strings.Join([]string{in.Manner, in.Name, in.Format, in.Username, in.Password}, "|"), "|"))
	}
	return strings.Join(out, " ")
}

// TestCatalogueFacts holds the vendors' documented forms, case by case where a
// plausible definition is wrong.
func TestCatalogueFacts(t *testing.T) {
	const bearer, none = "bearer||{credential}", ""
	const header = "header|Authorization|"
	for _, tc := range []struct{ name, base, host, path, want string }{
		{"apollo", "", "api.apollo.io", "/", "header|X-Api-Key|{credential}"},
		{"ashby", "", "api.ashbyhq.com", "/", "basic|||{credential}"},
		{"buffer", "", "api.buffer.com", "/", header + "Bearer {credential}"},
		{"buffer", "", "api.bufferapp.com", "/", none},
		{"clearbit", "", "person.clearbit.com", "/v2/people/find", header + "Bearer {credential}"},
		{"clearbit", "", "api.clearbit.com", "/", none},
		{"discord", "", "discord.com", "/api/v10/users/@me", bearer},
		{"discord", "", "discord.com", "/channels/@me", none},
		{"g2", "", "data.g2.com", "/api/v2", header + "Bearer {credential}"},
		{"github", "", "API.GitHub.com", "/user", bearer},
		{"github", "", "uploads.github.com", "/repos", bearer},
		{"github", "", "github.com", "/o/r.git/info/refs", "basic|||x-access-token|{credential}"},
		{"github", "", "evilgithub.com", "/", none},
		{"github", "https://ghe.corp.example", "ghe.corp.example", "/api/v3/user", bearer},
		{"github", "https://ghe.corp.example", "ghe.corp.example", "/o/r.git/info/refs", "basic|||x-access-token|{credential}"},
		{"github", "https://ghe.corp.example", "api.github.com", "/user", none},
		{"github", "https://ghe.corp.example", "uploads.github.com", "/", none},
		{"github", "https://ghe.corp.example", "github.com", "/", none},
		{"gitlab", "", "gitlab.com", "/api/v4/user", bearer},
		{"gitlab", "", "gitlab.com", "/users/sign_in", none},
		{"gitlab", "https://git.corp.example/gl", "git.corp.example", "/gl/api/v4", bearer},
		{"gitlab", "https://git.corp.example/gl", "gitlab.com", "/api/v4", none},
		{"google", "", "gmail.googleapis.com", "/", bearer},
		{"google", "", "googleapis.evil.com", "/", none},
		{"google", "", "evilgoogleapis.com", "/", none},
		{"google", "", "x.googleapis.com.evil.org", "/", none},
		{"intercom", "", "api.eu.intercom.io", "/", header + "Bearer {credential}"},
		{"klaviyo", "", "a.klaviyo.com", "/api/profiles", header + "Klaviyo-API-Key {credential}"},
		{"klaviyo-oauth", "", "a.klaviyo.com", "/api/profiles", bearer},
		{"lemlist", "", "api.lemlist.com", "/", "basic||||{credential}"},
		{"linear", "", "api.linear.app", "/graphql", bearer},
		{"livestorm", "", "api.livestorm.co", "/", header + "{credential}"},
		{"mailchimp", "", "us21.api.mailchimp.com", "/3.0", "basic|||authsome|{credential}"},
		{"mailchimp", "", "api.mailchimp.com", "/", none},
		{"mention-me", "", "api.mention-me.com", "/", bearer},
		{"notion", "", "api.notion.com", "/v1/pages", bearer},
		{"postiz", "", "api.postiz.com", "/public/v1", header + "{credential}"},
		{"postmark", "", "api.postmarkapp.com", "/email", "header|X-Postmark-Server-Token|{credential}"},
		{"brevo", "", "api.brevo.com", "/v3", "header|api-key|{credential}"},
		{"rewardful", "", "api.getrewardful.com", "/", "basic|||{credential}"},
		{"semrush", "", "api.semrush.com", "/", "query|key|{credential}"},
		{"slack", "", "slack.com", "/api/chat.postMessage", bearer},
		{"slack", "", "slack.com", "/signin", none},
		{"x", "", "api.x.com", "/2/users/me", bearer},
		{"x", "", "api.twitter.com", "/2/users/me", bearer},
		{"anthropic", "", "api.anthropic.com", "/v1/messages", "header|x-api-key|{credential}"},
		{"openai", "", "api.openai.com", "/v1", header + "Bearer {credential}"},
		{"serpapi", "", "serpapi.com", "/search", "query|api_key|{credential}"},
		{"elevenlabs", "", "api.elevenlabs.io", "/", "header|xi-api-key|{credential}"},
		{"gemini", "", "generativelanguage.googleapis.com", "/v1beta/models", "header|x-goog-api-key|{credential}"},
		{"gemini", "", "generativelanguage.googleapis.com", "/v1beta/openai/chat/completions", bearer},
		{"datadog", "", "api.datadoghq.com", "/api/v1", "header|DD-API-KEY|{credential.1} header|DD-APPLICATION-KEY|{credential.2}"},
		{"datadog", "https://api.datadoghq.eu", "api.datadoghq.com", "/api/v1", none},
		{"pagerduty", "", "api.pagerduty.com", "/", header + "Token token={credential}"},
		{"figma", "", "api.figma.com", "/v1/me", "header|X-Figma-Token|{credential}"},
		{"twilio", "", "api.twilio.com", "/", "basic|||{credential.1}|{credential.2}"},
		{"aws", "", "bedrock-runtime.us-east-1.amazonaws.com", "/model/any/invoke", "sigv4"},
		{"aws", "", "bucket.s3.eu-west-1.amazonaws.com", "/key", "sigv4"},
		{"aws", "", "amazonaws.com", "/", none},
		{"sentry", "", "sentry.io", "/api/0/projects/", header + "Bearer {credential}"},
		{"sentry", "https://sentry.corp.example", "us.sentry.io", "/api/0/", none},
		{"jira", "https://a.atlassian.net", "a.atlassian.net", "/rest/api/3/myself", "basic|||{credential.1}|{credential.2}"},
		{"jira", "https://a.atlassian.net", "a.atlassian.net", "/wiki/api", none},
		{"jira", "https://a.atlassian.net", "b.atlassian.net", "/rest/api/3", none},
		{"confluence", "https://a.atlassian.net", "a.atlassian.net", "/wiki/api/v2/pages", "basic|||{credential.1}|{credential.2}"},
	} {
		if got := find(t, tc.name, tc.base, tc.host, tc.path); got != tc.want {
			t.Errorf("%s %s https://%s%s: %q, want %q", tc.name, tc.base, tc.host, tc.path, got, tc.want)
		}
	}
}

func TestCatalogueOAuth(t *testing.T) {
	get := func(name string) *provider.Definition {
		e, err := provider.Bundled().Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		return e.Definition
	}
	atlassian, hubspot, linear, notion, slack, x := get("atlassian").OAuth, get("hubspot").OAuth, get("linear").OAuth, get("notion"), get("slack").OAuth, get("x").OAuth
	for what, ok := range map[string]bool{
		"atlassian asks for a refresh token":    slices.Contains(atlassian.Scopes, "offline_access"),
		"atlassian names its audience":          atlassian.AuthorizeParams["audience"] == "api.atlassian.com" && atlassian.AuthorizeParams["prompt"] == "consent",
		"discord authenticates the client":      get("discord").OAuth.TokenAuthMethod == "client_secret_basic",
		"google scopes give access to an API":   slices.ContainsFunc(get("google").OAuth.Scopes, func(s string) bool { return strings.HasPrefix(s, "https://") }),
		"hubspot deletes the refresh token":     hubspot.RevocationStyle == "delete_path" && strings.HasSuffix(hubspot.RevocationURL, "/refresh-tokens"),
		"klaviyo-oauth authenticates basic":     get("klaviyo-oauth").OAuth.TokenAuthMethod == "client_secret_basic",
		"klaviyo states a revision":             get("klaviyo").Headers["revision"] != "",
		"linear is not its MCP server":          linear.TokenURL == "https://api.linear.app/oauth/token" && linear.RevocationURL != linear.TokenURL && linear.ScopeSeparator == ",",
		"linear uses pkce":                      get("linear").Flow == provider.FlowPKCE,
		"mention-me has client credentials":     get("mention-me").Flow == provider.FlowClientCredentials,
		"notion takes JSON and Basic":           notion.OAuth.TokenRequest == "json" && notion.OAuth.TokenAuthMethod == "client_secret_basic" && notion.OAuth.AuthorizeParams["owner"] == "user",
		"notion states a version":               notion.Headers["Notion-Version"] != "" && notion.OAuth.TokenHeaders["Notion-Version"] != "",
		"postiz polls with JSON":                get("postiz").OAuth.DeviceTokenRequest == "json",
		"slack asks for a user's token":         slack.TokenPath == "authed_user.access_token" && slack.AuthorizeParams["user_scope"] != "" && len(slack.Scopes) == 0 && slack.PKCE,
		"slack revokes with the token":          slack.RevocationStyle == "bearer_post",
		"x authenticates basic":                 x.TokenAuthMethod == "client_secret_basic" && x.AuthorizationURL == "https://x.com/i/oauth2/authorize",
		"github logs in to the chosen instance": strings.HasPrefix(get("github").OAuth.TokenURL, "{base_url}/"),
	} {
		if !ok {
			t.Errorf("not so: %s", what)
		}
	}
}
