package imports

import (
	"strings"

	"authsome/vault/secret"
)

// A Var is one assignment of an env file.
type Var struct {
	Name  string
	Value secret.Text
	Line  int // of the name, from 1

	// Computed says that the value names other variables or commands, so that
	// it is not in the file.
	Computed bool
}

// ParseEnv reads NAME=VALUE lines as the dotenv libraries and shells do: with
// "export " before them, with single quotes that hold everything, with double
// quotes that know \n, \r, \t and escaped characters, both over several lines,
// and with comments. What is no assignment is left out. The last assignment of a
// name wins with them; here all are returned, in order.
func ParseEnv(data []byte) []Var {
	text := strings.TrimPrefix(string(data), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	p := &envParser{text: text, line: 1}
	for p.text != "" {
		p.next()
	}
	return p.vars
}

type envParser struct {
	text string
	line int
	vars []Var
}

// next reads one line, or one assignment of several.
func (p *envParser) next() {
	line, rest, _ := strings.Cut(p.text, "\n")
	name, value, ok := strings.Cut(line, "=")
	name = strings.TrimSpace(name)
	name = strings.TrimSpace(strings.TrimPrefix(name, "export "))
	if !ok || !validVariable(name) {
		p.text = rest
		p.line++
		return
	}
	v := Var{Name: name, Line: p.line}
	value = strings.TrimLeft(value, " \t")
	if value != "" && (value[0] == '\'' || value[0] == '"') {
		whole := value
		if rest != "" {
			whole += "\n" + rest
		}
		if content, after, ok := quoted(whole); ok {
			v.Value, v.Computed = secret.New(content), value[0] == '"' && computed(content)
			p.vars = append(p.vars, v)
			p.line += strings.Count(whole[:len(whole)-len(after)], "\n") + 1
			_, p.text, _ = strings.Cut(after, "\n")
			return
		}
	}
	if i := strings.Index(value, " #"); i >= 0 {
		value = value[:i]
	} else if strings.HasPrefix(value, "#") {
		value = ""
	}
	value = strings.TrimSpace(value)
	v.Value, v.Computed = secret.New(value), computed(value)
	p.vars = append(p.vars, v)
	p.text = rest
	p.line++
}

// quoted reads a quoted value and returns what comes after its closing quote.
func quoted(s string) (content, after string, ok bool) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote:
			return b.String(), s[i+1:], true
		case c == '\\' && quote == '"' && i+1 < len(s):
			i++
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			default:
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// computed reports whether a shell or a dotenv library would put something else
// in the value's place, or a secret manager would.
func computed(v string) bool {
	return strings.Contains(v, "${") || strings.Contains(v, "$(") || strings.HasPrefix(v, "$") || strings.Contains(v, "`") ||
		strings.HasPrefix(v, "op://")
}

func validVariable(name string) bool {
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}
