//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"authsome/ca"
)

// documents are those whose commands are run. In each, a ```console block is
// what a person sees on a terminal: commands after "$ ", and below them what
// they print, of which "..." stands for any lines and "…" for any text in one.
//
// Comments steer what a reader does not see:
//
//	<!-- file: NAME -->          the next block is written to NAME first
//	<!-- type after "P": TEXT --> TEXT is typed once P is on the screen
//	<!-- not run: WHY -->        the next block is not run
//
// A document's blocks are run one after the other, in one home.
var documents = []string{"README.md", "docs/quickstart.md", "docs/concepts.md", "docs/environment.md", "docs/running-agents.md", "docs/audit.md", "docs/metrics.md",
	"docs/troubleshooting.md", "docs/providers.md", "skills/authsome/SKILL.md"}

func TestDocuments(t *testing.T) {
	for _, name := range documents {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("..", "..", name))
			if err != nil {
				t.Fatal(err)
			}
			d := newDesk(t)
			for _, block := range blocksOf(t, string(b)) {
				d.do(block)
			}
			d.search()
		})
	}
}

// block is a fenced block of a document.
type block struct {
	line  int // of its first line
	lang  string
	text  string
	file  string // to be written to
	typed [][2]string
	skip  bool
}

var (
	fileComment = regexp.MustCompile(`^<!-- file: (\S+) -->$`)
	typeComment = regexp.MustCompile(`^<!-- type after "(.+)": (.*) -->$`)
	skipComment = regexp.MustCompile(`^<!-- not run: .+ -->$`)
)

func blocksOf(t *testing.T, document string) []block {
	t.Helper()
	var all []block
	var next block
	lines := strings.Split(document, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if m := fileComment.FindStringSubmatch(line); m != nil {
			next.file = m[1]
		} else if m := typeComment.FindStringSubmatch(line); m != nil {
			next.typed = append(next.typed, [2]string{m[1], m[2]})
		} else if skipComment.MatchString(line) {
			next.skip = true
		} else if lang, ok := strings.CutPrefix(line, "```"); ok {
			next.lang, next.line = lang, i+2
			for i++; i < len(lines) && lines[i] != "```"; i++ {
				next.text += lines[i] + "\n"
			}
			all = append(all, next)
			next = block{}
		} else if strings.HasPrefix(line, "<!-- file") || strings.HasPrefix(line, "<!-- type") || strings.HasPrefix(line, "<!-- not run") {
			t.Fatalf("line %d: what does %s mean?", i+1, line)
		}
	}
	return all
}

// The keys that the stand-ins for real APIs know. They are as secret as any.
const (
	openaiKey = "sk-" + canary
	githubKey = "gho_" + canary
)

// desk is where a document's commands are run: a home directory, and an internet
// in which some real hosts have a stand-in.
type desk struct {
	t    *testing.T
	home string
	env  []string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	names := []string{"api.openai.com", "api.anthropic.com", "api.github.com", "example.test"}
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: names})
	if err != nil {
		t.Fatal(err)
	}
	roots := filepath.Join(t.TempDir(), "internet.pem")
	if err := os.WriteFile(roots, authority.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	origin := httptest.NewUnstartedServer(http.HandlerFunc(standIn))
	origin.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return authority.Leaf(context.Background(), hello.ServerName)
	}}
	origin.EnableHTTP2 = true
	origin.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	origin.StartTLS()
	t.Cleanup(origin.Close)
	internet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		if !slices.Contains(names, host) && !strings.HasSuffix(host, ".example.test") {
			http.Error(w, "there is no such host", http.StatusBadGateway)
			return
		}
		r.Host = "any.example.test:443"
		connectTo(origin.Listener.Addr().String()).ServeHTTP(w, r)
	}))
	t.Cleanup(internet.Close)

	d := &desk{t: t, home: filepath.Join(t.TempDir(), "you")}
	bin := filepath.Join(t.TempDir(), "bin")
	for _, dir := range []string{d.home, bin} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(binary, filepath.Join(bin, "authsome")); err != nil {
		t.Fatal(err)
	}
	// "pass show NAME" is what many keep keys in.
	if err := os.WriteFile(filepath.Join(bin, "pass"), []byte("#!/bin/sh\necho "+openaiKey+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	d.env = []string{"HOME=" + d.home, "PATH=" + bin + ":" + os.Getenv("PATH"), "HTTPS_PROXY=" + internet.URL, "SSL_CERT_FILE=" + roots,
		"TMPDIR=" + t.TempDir(), "LANG=C.UTF-8", "NO_COLOR=1", "TERM=dumb", "PS1=", "PYTHONDONTWRITEBYTECODE=1", "GIT_CONFIG_NOSYSTEM=1"}
	return d
}

// standIn answers whoever has the host's key.
func standIn(w http.ResponseWriter, r *http.Request) {
	want := map[string]string{"api.openai.com": "Bearer " + openaiKey, "api.github.com": "Bearer " + githubKey}[r.Host]
	if want == "" {
		want = "Bearer " + canary
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != want {
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"error":"who are you?"}`+"\n")
		return
	}
	switch r.Host {
	case "api.openai.com":
		io.WriteString(w, `{"object":"list","data":[{"id":"gpt-5"}]}`+"\n")
	case "api.github.com":
		io.WriteString(w, `{"login":"ada"}`+"\n")
	default:
		io.WriteString(w, `{"user":"you"}`+"\n")
	}
}

// do writes a block to its file, or runs it.
func (d *desk) do(b block) {
	d.t.Helper()
	if b.file != "" {
		text := strings.NewReplacer("sk-YOUR-REAL-KEY", openaiKey).Replace(b.text)
		if err := os.WriteFile(filepath.Join(d.home, b.file), []byte(text), 0o600); err != nil {
			d.t.Fatal(err)
		}
		return
	}
	if b.lang == "console" && !b.skip {
		d.run(b)
	}
}

// step is a command and what it prints.
type step struct{ command, want string }

func stepsOf(b block) (steps []step) {
	for line := range strings.Lines(b.text) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			steps = append(steps, step{command: strings.TrimSuffix(command, "\n")})
		} else if more, ok := strings.CutPrefix(line, "> "); ok && len(steps) > 0 && steps[len(steps)-1].want == "" {
			steps[len(steps)-1].command += "\n" + strings.TrimSuffix(more, "\n")
		} else if len(steps) > 0 {
			steps[len(steps)-1].want += line
		}
	}
	return steps
}

const mark = "--next-of-document--"

// run runs a block's commands in one shell on a terminal.
func (d *desk) run(b block) {
	d.t.Helper()
	steps := stepsOf(b)
	var script strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&script, "%s\nstatus=$?; echo %s; (exit $status)\n", s.command, mark)
	}
	path := filepath.Join(d.t.TempDir(), "block.sh")
	if err := os.WriteFile(path, []byte(script.String()), 0o600); err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.CommandContext(d.t.Context(), "bash", "--noprofile", "--norc", path)
	cmd.Dir, cmd.Env = d.home, d.env
	term := onTerminal(d.t, cmd)
	for _, keys := range b.typed {
		term.expect(keys[0])
		eventually(d.t, "the terminal hides what is typed", func() bool { return !term.echoes() }, term.output)
		term.typed(strings.NewReplacer("sk-YOUR-REAL-KEY", openaiKey).Replace(keys[1]) + "\n")
	}
	term.wait()
	parts := strings.Split(strings.ReplaceAll(term.output(), "\r", ""), mark+"\n")
	for i, s := range steps {
		if i >= len(parts)-1 {
			d.t.Fatalf("line %d: the shell ended before: %s\n%s", b.line, s.command, term.output())
		}
		if !matches(s.want, parts[i]) {
			d.t.Errorf("line %d: $ %s\nprints:\n%s\nand the document says:\n%s", b.line, s.command, parts[i], s.want)
		}
	}
}

// matches compares what was printed with what a document shows.
func matches(want, got string) bool {
	var re strings.Builder
	re.WriteString(`(?s)^`)
	for line := range strings.Lines(want) {
		line = strings.TrimSuffix(line, "\n")
		if line == "..." {
			re.WriteString(`(?:.*\n)?`)
			continue
		}
		parts := strings.Split(line, "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		re.WriteString(strings.Join(parts, `[^\n]*`) + `[ ]*\n`)
	}
	re.WriteString(`$`)
	ok, err := regexp.MatchString(re.String(), got)
	return err == nil && ok
}

// search looks for the secret in what the commands left behind.
func (d *desk) search() {
	d.t.Helper()
	encoded := base64.StdEncoding.EncodeToString([]byte(canary))
	err := filepath.WalkDir(filepath.Join(d.home, ".authsome"), func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(canary)) || bytes.Contains(b, []byte(encoded)) {
			d.t.Errorf("%s holds the secret", path)
		}
		return err
	})
	if err != nil {
		d.t.Error(err)
	}
}

// TestDocumentsNameWhatExists holds every command, flag and file that any
// document names, in a block or in a text, to what there is.
func TestDocumentsNameWhatExists(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "../../README.md", "../../SECURITY.md", "../../skills/authsome/SKILL.md")
	known := map[string]string{} // command → its help
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`).FindAllStringSubmatch(string(b), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", file, m[1])
			}
		}
		for _, call := range callsIn(string(b)) {
			checkCall(t, file, call, known)
		}
	}
}

var (
	inCode  = regexp.MustCompile("`([^`\n]+)`")
	calling = regexp.MustCompile(`(?:^|[\s(|;&])authsome ([^|;&)>]*)`)
)

// callsIn finds "authsome …" in code spans and in fenced blocks.
func callsIn(document string) (calls []string) {
	fenced := false
	for line := range strings.Lines(document) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		texts := []string{line}
		if !fenced {
			texts = nil
			for _, m := range inCode.FindAllStringSubmatch(line, -1) {
				texts = append(texts, m[1])
			}
		}
		for _, text := range texts {
			for _, m := range calling.FindAllStringSubmatch(strings.TrimPrefix(strings.TrimSpace(text), "$ "), -1) {
				calls = append(calls, m[1])
			}
		}
	}
	return calls
}

var plainWord = regexp.MustCompile(`^[a-z][a-z-]*$`)

// isGroup reports whether a command has commands below it.
func isGroup(command string) bool {
	out, err := exec.Command(binary, command, "--help").Output()
	return err == nil && strings.Contains(string(out), "\nAvailable Commands:\n")
}

// checkCall looks a call's command and flags up in the help.
func checkCall(t *testing.T, file, call string, known map[string]string) {
	t.Helper()
	words := strings.Fields(call)
	var command, flags []string
	for i, w := range words {
		if w == "--" {
			break
		}
		if name, ok := strings.CutPrefix(w, "--"); ok {
			name, _, _ = strings.Cut(strings.Trim(name, "…,.'\"]"), "=")
			flags = append(flags, "--"+name)
		} else if len(command) == 0 && plainWord.MatchString(w) && (i == 0 || strings.HasPrefix(words[0], "--")) {
			command = []string{w}
		} else if len(command) == 1 && i > 0 && words[i-1] == command[0] && isGroup(command[0]) && plainWord.MatchString(w) {
			command = append(command, w)
		}
		if len(command) > 0 && command[0] == "run" && !strings.HasPrefix(w, "-") && i > 0 && words[i-1] == "run" {
			break // what follows is the child's
		}
	}
	if len(command) == 0 {
		return // prose
	}
	name := strings.Join(command, " ")
	help, ok := known[name]
	if !ok {
		out, err := exec.Command(binary, append(command, "--help")...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Usage:") {
			t.Errorf("%s: there is no command %q, in: authsome %s", file, name, call)
			return
		}
		help = string(out)
		known[name] = help
	}
	for _, flag := range flags {
		if flag != "--" && !regexp.MustCompile(regexp.QuoteMeta(flag)+`\b`).MatchString(help) {
			t.Errorf("%s: %q has no flag %s, in: authsome %s", file, name, flag, call)
		}
	}
}
