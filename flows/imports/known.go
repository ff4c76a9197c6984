package imports

import (
	"regexp"
	"regexp/syntax"
	"sort"
	"strings"

	"authsome/provider"
	"authsome/vault/secret"
)

// Kind says what a variable holds.
type Kind string

// The kinds of secret.
const (
	KindAPIKey       Kind = "api_key"
	KindToken        Kind = "access_token"
	KindClientSecret Kind = "client_secret"
)

// A Match is what is known about one value.
type Match struct {
	Provider string
	Kind     Kind
	By       string // "variable" or "shape"
}

// Index knows the variables and the shapes of the providers' credentials.
type Index struct {
	entries   map[string]*provider.Entry
	variables map[string]Match
	shapes    []shape // the most telling first
}

type shape struct {
	match  Match
	re     *regexp.Regexp
	prefix int // characters that every value begins with
}

// aliases are variables that vendors document besides the one that a definition
// names.
var aliases = map[string]string{
	"GH_TOKEN": "github", "GITHUB_TOKEN": "github", "GITHUB_PAT": "github", "GITLAB_TOKEN": "gitlab", "GITLAB_PRIVATE_TOKEN": "gitlab",
	"HUGGING_FACE_HUB_TOKEN": "huggingface", "HUGGINGFACE_TOKEN": "huggingface", "GOOGLE_API_KEY": "gemini", "COHERE_API_KEY": "cohere",
	"NOTION_TOKEN": "notion", "NOTION_API_KEY": "notion", "SLACK_BOT_TOKEN": "slack", "SLACK_TOKEN": "slack",
	"LINEAR_API_KEY": "linear", "STRIPE_SECRET_KEY": "stripe", "VERCEL_ACCESS_TOKEN": "vercel", "CF_API_TOKEN": "cloudflare",
	"PPLX_API_KEY": "perplexity", "FIGMA_TOKEN": "figma", "DISCORD_TOKEN": "discord", "CLAUDE_API_KEY": "anthropic",
	"DD_API_KEY": "datadog",
}

// shapes are documented forms of credentials whose definitions name none,
// because an older or another form is valid too.
var shapes = map[string]string{
	"github":      `gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}`,
	"gitlab":      `glpat-[A-Za-z0-9_.-]{20,}`,
	"slack":       `xox[abeprs]-[A-Za-z0-9-]{10,}`,
	"huggingface": `hf_[A-Za-z0-9]{30,}`,
	"groq":        `gsk_[A-Za-z0-9]{40,}`,
	"openrouter":  `sk-or-v1-[0-9a-f]{32,}`,
	"gemini":      `AIza[A-Za-z0-9_-]{35}`,
	"perplexity":  `pplx-[A-Za-z0-9]{30,}`,
	"tavily":      `tvly-[A-Za-z0-9_-]{16,}`,
	"linear":      `lin_(?:api|oauth)_[A-Za-z0-9]{20,}`,
	"notion":      `ntn_[A-Za-z0-9]{30,}`,
	"figma":       `figd_[A-Za-z0-9_-]{30,}`,
	"supabase":    `sbp_[a-f0-9]{30,}`,
	"netlify":     `nfp_[A-Za-z0-9]{30,}`,
}

// pairs are credentials "first:second" whose halves have a variable each.
var pairs = []struct{ provider, first, second string }{
	{"twilio", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"},
	{"twilio", "TWILIO_API_KEY", "TWILIO_API_SECRET"},
	{"datadog", "DD_API_KEY", "DD_APP_KEY"},
	{"datadog", "DATADOG_API_KEY", "DATADOG_APP_KEY"},
	{"jira", "JIRA_EMAIL", "JIRA_API_TOKEN"},
	{"confluence", "CONFLUENCE_EMAIL", "CONFLUENCE_API_TOKEN"},
	{"aws", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
}

// tellingPrefix is how many characters a key pattern has to begin with to say
// anything about a value whose variable nobody knows.
const tellingPrefix = 3

// NewIndex learns from definitions. A custom one comes before a bundled one
// that claims the same variable.
func NewIndex(entries []*provider.Entry) *Index {
	ix := &Index{entries: map[string]*provider.Entry{}, variables: map[string]Match{}}
	entries = append([]*provider.Entry(nil), entries...)
	sort.SliceStable(entries, func(i, j int) bool { return entries[i].Source == "custom" && entries[j].Source != "custom" })
	for _, e := range entries {
		ix.entries[e.Name] = e
		ix.learn(e)
	}
	for variable, name := range aliases {
		if e := ix.entries[name]; e != nil {
			ix.know(variable, Match{name, kindOf(e), "variable"})
		}
	}
	for name, pattern := range shapes {
		if e := ix.entries[name]; e != nil {
			ix.addShape(Match{name, kindOf(e), "shape"}, pattern)
		}
	}
	sort.SliceStable(ix.shapes, func(i, j int) bool {
		if ix.shapes[i].prefix != ix.shapes[j].prefix {
			return ix.shapes[i].prefix > ix.shapes[j].prefix
		}
		return ix.shapes[i].match.Provider < ix.shapes[j].match.Provider
	})
	return ix
}

func kindOf(e *provider.Entry) Kind {
	if e.AuthType == provider.AuthAPIKey {
		return KindAPIKey
	}
	return KindToken
}

func (ix *Index) know(variable string, m Match) {
	if _, taken := ix.variables[variable]; variable != "" && !taken {
		ix.variables[variable] = m
	}
}

func (ix *Index) learn(e *provider.Entry) {
	if e.APIKey != nil {
		ix.know(e.APIKey.EnvVar, Match{e.Name, KindAPIKey, "variable"})
		if e.APIKey.KeyPattern != "" {
			ix.addShape(Match{e.Name, KindAPIKey, "shape"}, e.APIKey.KeyPattern)
		}
	}
	for field, variable := range e.Export.Env {
		if field == provider.FirstOfKey {
			continue // a name, as a rule; alone it is no secret
		}
		ix.know(variable, Match{e.Name, kindOf(e), "variable"})
	}
	ix.know(e.Client.ClientSecretEnv, Match{e.Name, KindClientSecret, "variable"})
	for _, pair := range pairs {
		if pair.provider == e.Name {
			ix.know(pair.second, Match{e.Name, KindAPIKey, "variable"})
		}
	}
}

func (ix *Index) addShape(m Match, pattern string) {
	re, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		return // a definition that was loaded has none such
	}
	if n := literalPrefix(pattern); n >= tellingPrefix {
		ix.shapes = append(ix.shapes, shape{m, re, n})
	}
}

// literalPrefix is how many characters are the same in whatever a pattern
// matches, or nearly so: alternatives count as their shortest.
func literalPrefix(pattern string) int {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0
	}
	n, _ := leading(re.Simplify())
	return n
}

// leading counts the literal characters at the start of an expression. whole
// says that the expression is nothing else, so that what follows counts too.
func leading(re *syntax.Regexp) (n int, whole bool) {
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune), true
	case syntax.OpBeginLine, syntax.OpBeginText, syntax.OpEmptyMatch:
		return 0, true
	case syntax.OpCapture:
		return leading(re.Sub[0])
	case syntax.OpCharClass:
		if len(re.Rune) <= 12 { // one of a few, as in gh[pousr]_
			return 1, true
		}
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			more, all := leading(sub)
			n += more
			if !all {
				return n, false
			}
		}
		return n, true
	case syntax.OpAlternate:
		n, whole = leading(re.Sub[0])
		for _, sub := range re.Sub[1:] {
			more, all := leading(sub)
			n, whole = min(n, more), whole && all
		}
		return n, whole
	}
	return 0, false
}

// Match says what a variable holds. ok is false for what is nothing of a
// provider's, and for what is no secret: a placeholder, an example, a reference
// to another variable.
func (ix *Index) Match(v Var) (m Match, ok bool) {
	value := v.Value.Reveal()
	if v.Computed || dummy(value) {
		return Match{}, false
	}
	if m, ok := ix.variables[v.Name]; ok {
		if e := ix.entries[m.Provider]; len(value) < shortestSecret || value == e.Placeholder() {
			return Match{}, false
		}
		return m, true
	}
	for _, s := range ix.shapes {
		if s.re.MatchString(value) {
			if e := ix.entries[s.match.Provider]; value == e.Placeholder() {
				return Match{}, false
			}
			return s.match, true
		}
	}
	return Match{}, false
}

// shortestSecret is below any real one.
const shortestSecret = 8

var dummies = regexp.MustCompile(`(?i)^(?:<.*>|\[.*\]|\{.*\}|.*(?:authsome[-_]?proxy[-_]?managed|change[-_ ]?me|replace[-_ ]?me|your[-_ ]|placeholder|example|xxxx|\.\.\.|\*\*\*|todo).*|x+|0+|test|dummy|none|null|secret)$`)

// dummy reports whether a value stands for a secret and is none.
func dummy(value string) bool {
	return strings.TrimSpace(value) == "" || dummies.MatchString(value)
}

// FromEnv finds the credentials of an env file. Of several assignments to one
// name the last counts, as it does for programs.
func (ix *Index) FromEnv(vars []Var) (found []Found, skipped []Skipped) {
	last := map[string]Var{}
	for _, v := range vars {
		last[v.Name] = v
	}
	used := map[string]bool{}
	for _, p := range pairs {
		first, second := last[p.first], last[p.second]
		_, isSecret := ix.Match(second)
		if ix.entries[p.provider] == nil || first.Value.IsZero() || first.Computed || !isSecret || used[p.first] || used[p.second] {
			continue
		}
		used[p.first], used[p.second] = true, true
		found = append(found, Found{Provider: p.provider, Variable: p.first + " and " + p.second, Line: second.Line,
			APIKey: secret.New(first.Value.Reveal() + ":" + second.Value.Reveal())})
	}
	for _, v := range vars {
		if v.Line != last[v.Name].Line || used[v.Name] {
			continue
		}
		m, ok := ix.Match(v)
		if !ok {
			if _, known := ix.variables[v.Name]; known {
				skipped = append(skipped, Skipped{Provider: ix.variables[v.Name].Provider, Line: v.Line, Variable: v.Name, Reason: "its value is no credential"})
			}
			continue
		}
		f := Found{Provider: m.Provider, Variable: v.Name, Line: v.Line}
		switch m.Kind {
		case KindAPIKey:
			f.APIKey = v.Value
		case KindToken:
			f.AccessToken = v.Value
		case KindClientSecret:
			skipped = append(skipped, Skipped{Provider: m.Provider, Line: v.Line, Variable: v.Name,
				Reason: "it belongs to an OAuth client: with it in the environment, run authsome login " + m.Provider})
			continue
		}
		found = append(found, f)
	}
	return found, skipped
}
