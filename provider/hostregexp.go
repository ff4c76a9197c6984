package provider

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strings"
)

// maxRegexBytes bounds a host expression. Real ones have some dozen bytes.
const maxRegexBytes = 512

// maxRegexInsts bounds its program: counted repetition can make a short
// expression large.
const maxRegexInsts = 2048

// hostAlphabet is every byte of a canonical host that is not an IPv6 address.
const hostAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789.-_"

// anchored is the expression that is compiled: the whole host, in any case.
func anchored(expr string) string { return `(?i)\A(?:` + expr + `)\z` }

// regexSuffix returns the longest domain that every host matched by expr is, or
// is a subdomain of. It fails when there is none that one party owns.
//
// It is decided exactly, on the program that the expression's syntax tree
// compiles to, and not by how the expression is spelled: a dot that is not
// escaped, an optional group, an alternation and a flag all change what
// matches and all are seen.
func regexSuffix(expr string) (string, error) {
	if len(expr) > maxRegexBytes {
		return "", fmt.Errorf("the expression is longer than %d bytes; use several entries", maxRegexBytes)
	}
	// By itself first: "a)|(b" is whole only inside the brackets that we add.
	if _, err := syntax.Parse(expr, syntax.Perl); err != nil {
		return "", fmt.Errorf("%q is not an RE2 expression: %w", expr, err)
	}
	tree, err := syntax.Parse(anchored(expr), syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("%q is not an RE2 expression: %w", expr, err)
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return "", fmt.Errorf("%q is not an RE2 expression: %w", expr, err)
	}
	if len(prog.Inst) > maxRegexInsts {
		return "", errors.New("the expression repeats too much; use *.example.com or several entries")
	}
	domain, ok := counterexample(prog, "")
	if !ok {
		return "", fmt.Errorf("%q matches no host; hosts are compared in lower case, with international names as xn--", expr)
	}
	// Every match must end in the domain. So it is an end of the first match, and
	// each counterexample leaves of it at most what the two have in common.
	for host := domain; ; domain = commonDomain(domain, host) {
		for domain != "" && (!isDomain(domain) || !registrable(domain)) {
			_, domain, _ = strings.Cut(domain, ".")
		}
		if domain == "" {
			return "", fmt.Errorf(`%q matches %q too; end it in one domain behind an escaped dot, such as %s.*\.example\.com`, expr, host, regexPrefix)
		}
		if host, ok = counterexample(prog, domain); !ok {
			return domain, nil
		}
	}
}

// commonDomain returns the longest domain that both are within.
func commonDomain(domain, host string) string {
	for domain != "" && host != domain && !strings.HasSuffix(host, "."+domain) {
		_, domain, _ = strings.Cut(domain, ".")
	}
	return domain
}

// isDomain reports whether a host of the alphabet is a domain name.
func isDomain(s string) bool {
	canonical, err := CanonicalHost(s)
	return err == nil && canonical == s && !isAddress(s)
}

// counterexample returns a shortest string of hostAlphabet that prog matches and
// that is neither domain nor a subdomain of it. With domain "" it returns a
// shortest non-empty match.
//
// It searches the product of the program and of an automaton for "ends in
// .domain". Assertions such as ^ and \b count as satisfied: that can only add
// counterexamples.
func counterexample(prog *syntax.Prog, domain string) (string, bool) {
	s := search{prog: prog, suffix: newSuffixMatcher(domain), seen: map[state]bool{}}
	s.follow(state{pc: uint32(prog.Start), at: s.suffix.start()}, -1)
	for i := 0; i < len(s.queue); i++ {
		step := s.queue[i]
		inst := &prog.Inst[step.pc]
		for _, c := range []byte(hostAlphabet) {
			if !inst.MatchRune(rune(c)) {
				continue
			}
			after := state{pc: inst.Out, at: s.suffix.next(step.at, c), some: true}
			if found := s.follow(after, s.record(i, c)); found >= 0 {
				return s.text(found), true
			}
		}
	}
	return "", false
}

// state is one state of the product.
type state struct {
	pc   uint32
	at   int  // of the suffix automaton
	some bool // a byte has been read: no host is empty
}

// search is a breadth-first search. The queue holds states that consume a byte.
type search struct {
	prog   *syntax.Prog
	suffix suffixMatcher
	seen   map[state]bool
	queue  []step
	taken  []edge
}

type step struct {
	state
	edge int // into taken; -1 at the start
}

type edge struct {
	from int // into queue
	c    byte
}

func (s *search) record(from int, c byte) int {
	s.taken = append(s.taken, edge{from, c})
	return len(s.taken) - 1
}

// follow adds what can be reached from a state without consuming a byte. It
// returns via when a match that lacks the suffix ends there, and -1 otherwise.
func (s *search) follow(from state, via int) int {
	stack := []uint32{from.pc}
	for len(stack) > 0 {
		from.pc = stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if s.seen[from] {
			continue
		}
		s.seen[from] = true
		inst := &s.prog.Inst[from.pc]
		switch inst.Op {
		case syntax.InstMatch:
			if from.some && !s.suffix.done(from.at) {
				return via
			}
		case syntax.InstAlt, syntax.InstAltMatch:
			stack = append(stack, inst.Arg, inst.Out)
		case syntax.InstCapture, syntax.InstEmptyWidth, syntax.InstNop:
			stack = append(stack, inst.Out)
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			s.queue = append(s.queue, step{from, via})
		case syntax.InstFail:
		}
	}
	return -1
}

// text spells the path that ends with an edge.
func (s *search) text(via int) string {
	var reversed []byte
	for via >= 0 {
		reversed = append(reversed, s.taken[via].c)
		via = s.queue[s.taken[via].from].edge
	}
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	return string(reversed)
}

// suffixMatcher is the Knuth–Morris–Pratt automaton of "." + domain. Its state
// is the length of the longest start of the pattern that the input ends in.
type suffixMatcher struct {
	pattern string
	back    []int // longest proper border of pattern[:i]
}

func newSuffixMatcher(domain string) suffixMatcher {
	if domain == "" {
		return suffixMatcher{}
	}
	m := suffixMatcher{pattern: "." + domain, back: make([]int, len(domain)+2)}
	for i, at := 1, 0; i < len(m.pattern); i++ {
		for at > 0 && m.pattern[i] != m.pattern[at] {
			at = m.back[at]
		}
		if m.pattern[i] == m.pattern[at] {
			at++
		}
		m.back[i+1] = at
	}
	return m
}

// start is the state before the first byte: as if a dot had been read, because
// the domain itself is as good as a subdomain.
func (m suffixMatcher) start() int {
	if m.pattern == "" {
		return 0
	}
	return 1
}

func (m suffixMatcher) next(at int, c byte) int {
	if m.pattern == "" {
		return 0
	}
	for at == len(m.pattern) || at > 0 && m.pattern[at] != c {
		at = m.back[at]
	}
	if m.pattern[at] == c {
		at++
	}
	return at
}

// done reports whether the input read so far ends in the pattern.
func (m suffixMatcher) done(at int) bool { return m.pattern != "" && at == len(m.pattern) }
