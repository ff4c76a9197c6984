package provider

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode"
)

// DefaultPlaceholder is what a child sees instead of a credential, unless the
// provider's own tools check the shape of a key.
const DefaultPlaceholder = "authsome-proxy-managed"

// maxPlaceholderBytes bounds placeholders; real keys are shorter.
const maxPlaceholderBytes = 512

// fillers are tried in turn where a key has free text. The last ones are for
// patterns with few characters, such as hexadecimal digits.
var fillers = []string{
	DefaultPlaceholder, "authsome_proxy_managed", "authsomeproxymanaged", "AUTHSOMEPROXYMANAGED",
	"xxxxxxxxxxxxxxxx", "XXXXXXXXXXXXXXXX", "0000000000000000",
}

// Placeholder returns what a child of run sees instead of the credential. It
// satisfies api_key.key_pattern, so that the provider's own tools accept it, and
// nobody takes it for a real key: it says authsome, or is a long run of one
// character. When no such text satisfies the pattern it is [DefaultPlaceholder].
func (d *Definition) Placeholder() string {
	if d.APIKey == nil || d.APIKey.KeyPattern == "" {
		return DefaultPlaceholder
	}
	whole, err := regexp.Compile(`^(?:` + d.APIKey.KeyPattern + `)$`)
	if err != nil || whole.MatchString(DefaultPlaceholder) {
		return DefaultPlaceholder
	}
	tree, err := syntax.Parse(d.APIKey.KeyPattern, syntax.Perl)
	if err != nil {
		return DefaultPlaceholder
	}
	for _, text := range fillers {
		for branch := range 4 {
			g := generator{filler: text, branch: branch}
			g.node(tree)
			s := g.out.String()
			if g.used && len(s) <= maxPlaceholderBytes && whole.MatchString(s) {
				return s
			}
		}
	}
	return DefaultPlaceholder
}

// generator writes a text that an expression matches, using the filler where
// the expression repeats a class of characters. The result has to be checked:
// assertions are ignored.
type generator struct {
	filler string
	branch int  // which branch of alternations to take
	used   bool // the filler is in the text, which makes it recognisable
	out    strings.Builder
}

func (g *generator) node(re *syntax.Regexp) {
	if g.out.Len() > maxPlaceholderBytes {
		return
	}
	switch re.Op {
	case syntax.OpLiteral:
		g.out.WriteString(string(re.Rune))
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		g.fill(re, 1, 1)
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			g.node(sub)
		}
	case syntax.OpAlternate:
		g.node(re.Sub[min(g.branch, len(re.Sub)-1)])
	case syntax.OpStar:
		g.repeat(re.Sub[0], 0, -1)
	case syntax.OpPlus:
		g.repeat(re.Sub[0], 1, -1)
	case syntax.OpQuest:
		g.repeat(re.Sub[0], 0, 1)
	case syntax.OpRepeat:
		g.repeat(re.Sub[0], re.Min, re.Max)
	}
}

func (g *generator) repeat(re *syntax.Regexp, least, most int) {
	switch re.Op {
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		g.fill(re, least, most)
		return
	case syntax.OpLiteral:
		if len(re.Rune) == 1 {
			g.fill(re, least, most)
			return
		}
	case syntax.OpCapture:
		if len(re.Sub) == 1 {
			g.repeat(re.Sub[0], least, most)
			return
		}
	}
	for range least {
		g.node(re)
	}
}

// fill writes between least and most characters of a class; most -1 is no limit.
func (g *generator) fill(re *syntax.Regexp, least, most int) {
	n := least
	if text := g.filler; !g.used && (most < 0 || most >= len(text)) && allIn(re, text) {
		g.used = true
		g.out.WriteString(text)
		n -= len(text)
	}
	pad := padding(re)
	for range min(n, maxPlaceholderBytes+1) {
		g.out.WriteRune(pad)
	}
}

func allIn(re *syntax.Regexp, text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !in(re, r) })
}

func in(re *syntax.Regexp, r rune) bool {
	if re.Op == syntax.OpLiteral {
		return re.Rune[0] == r
	}
	if re.Op != syntax.OpCharClass {
		return true
	}
	for i := 0; i+1 < len(re.Rune); i += 2 {
		if re.Rune[i] <= r && r <= re.Rune[i+1] {
			return true
		}
	}
	return false
}

// padding is a dull character of a class.
func padding(re *syntax.Regexp) rune {
	for _, r := range "xX0" {
		if in(re, r) {
			return r
		}
	}
	for r := rune('!'); r < unicode.MaxASCII; r++ {
		if in(re, r) {
			return r
		}
	}
	return 'x'
}
