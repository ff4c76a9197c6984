//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"authsome/ca"
)

// In a document a ```console block is what a person sees on a terminal: commands
// after "$ ", and below them what they print, of which "..." stands for any lines and
// "…" for any text in one.
//
// Comments steer what a reader does not see:
//
//	<!-- file: NAME -->                the next block is written to NAME first
//	<!-- type after "P": TEXT -->       TEXT is typed once P is on the screen, unseen
//	<!-- type shown after "P": TEXT --> the same, and seen
//	<!-- not run: needs WORD… -->      the next block is not run: it has WORD in it,
//	                                   which no test has
//
// A document's blocks are run one after the other, in one home. Pages that a command
// asks to open are opened.
func documents(t *testing.T) (names []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md", "skills/*/*.md"} {
		found, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			if name, _ := filepath.Rel(filepath.Join("..", ".."), path); name != "docs/cli.md" { // TestExamples is of that
				names = append(names, name)
			}
		}
	}
	if len(names) < 18 {
		t.Fatalf("the documents are %q", names)
	}
	return names
}

func TestDocuments(t *testing.T) {
	for _, name := range documents(t) {
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
	typed []typing
	skip  string // the word that it needs
}

// typing is what a person types, once there is a prompt for it.
type typing struct {
	prompt, keys string
	shown        bool
}

var (
	fileComment = regexp.MustCompile(`^<!-- file: (\S+) -->$`)
	typeComment = regexp.MustCompile(`^<!-- type (shown )?after "(.+)":(?: (.*))? -->$`)
	skipComment = regexp.MustCompile(`^<!-- not run: needs ([^ ,;]+).* -->$`)
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
			next.typed = append(next.typed, typing{m[2], m[3], m[1] != ""})
		} else if m := skipComment.FindStringSubmatch(line); m != nil {
			next.skip = m[1]
		} else if lang, ok := strings.CutPrefix(line, "```"); ok {
			next.lang, next.line = lang, i+2
			for i++; i < len(lines) && lines[i] != "```"; i++ {
				next.text += lines[i] + "\n"
			}
			next.check(t)
			all = append(all, next)
			next = block{}
		} else if strings.HasPrefix(line, "<!-- file") || strings.HasPrefix(line, "<!-- type") || strings.HasPrefix(line, "<!-- not run") {
			t.Fatalf("line %d: what does %s mean?", i+1, line)
		}
	}
	return all
}

// check holds a block to what there are: a command that is neither run nor said why
// not would be one that nobody has tried.
func (b block) check(t *testing.T) {
	t.Helper()
	switch {
	case b.skip != "" && b.lang != "console":
		t.Errorf("line %d: only what is ```console is run", b.line)
	case b.skip != "" && (!strings.Contains(b.text, b.skip) || installed(t, b.skip)):
		t.Errorf("line %d: it is not run because it needs %s, which it does not, or which make deps installs", b.line, b.skip)
	case b.lang == "console" && len(stepsOf(b)) == 0:
		t.Errorf("line %d: a ```console block with no command after \"$ \"", b.line)
	case b.file == "" && !slices.Contains([]string{"console", "text", "json", "yaml"}, b.lang):
		t.Errorf("line %d: a block of %q: say ```console when there are commands in it, and ```text when not", b.line, b.lang)
	case b.lang == "text" && regexp.MustCompile(`(?m)^(\$ |authsome )`).MatchString(b.text):
		t.Errorf("line %d: a command in a ```text block", b.line)
	}
}

// installed reports whether .ci/deps sees to a program.
func installed(t *testing.T, program string) bool {
	return regexp.MustCompile(`(?m)^has ` + regexp.QuoteMeta(program) + ` `).MatchString(readFile(t, "../../.ci/deps"))
}

// The keys that the stand-ins for real APIs know. They are as secret as any.
const (
	openaiKey = "sk-" + canary
	githubKey = "gho_" + canary
)

// desk is where a document's commands are run: a home directory, and an internet
// in which some real hosts have a stand-in.
type desk struct {
	t       *testing.T
	home    string
	env     []string
	browser *http.Client // the person's own
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	names := []string{"api.openai.com", "api.anthropic.com", "api.github.com", "github.com", "gitlab.example.com", "auth.acme.example", "example.test"}
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

	proxy, err := url.Parse(internet.URL)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority.RootPEM())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, Proxy: func(r *http.Request) (*url.URL, error) {
		if r.URL.Hostname() == "127.0.0.1" {
			return nil, nil
		}
		return proxy, nil
	}}
	t.Cleanup(transport.CloseIdleConnections)
	d := &desk{t: t, browser: &http.Client{Transport: transport, Timeout: patience}, home: filepath.Join(t.TempDir(), "you")}
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
	pass := "#!/bin/sh\ncase $2 in *-client) echo client-" + canary + ";; *) echo " + openaiKey + ";; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "pass"), []byte(pass), 0o700); err != nil {
		t.Fatal(err)
	}
	d.env = []string{"HOME=" + d.home, "PATH=" + bin + ":" + os.Getenv("PATH"), "HTTPS_PROXY=" + internet.URL, "SSL_CERT_FILE=" + roots,
		"TMPDIR=" + t.TempDir(), "LANG=C.UTF-8", "NO_COLOR=1", "TERM=dumb", "PS1=", "PYTHONDONTWRITEBYTECODE=1", "GIT_CONFIG_NOSYSTEM=1"}
	return d
}

// standIn answers whoever has the host's key.
func standIn(w http.ResponseWriter, r *http.Request) {
	if logIn(w, r) {
		return
	}
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

// logIn is the authorization servers, where everybody agrees to everything.
func logIn(w http.ResponseWriter, r *http.Request) bool {
	token := map[string]string{"github.com": githubKey, "gitlab.example.com": canary, "auth.acme.example": canary}[r.Host]
	if token == "" {
		return false
	}
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/authorize") {
		q := r.URL.Query()
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {"code-of-" + r.Host}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
		return true
	}
	var answer any
	switch grant := r.FormValue("grant_type"); {
	case r.URL.Path == "/.well-known/oauth-authorization-server":
		at := "https://" + r.Host
		answer = map[string]any{"issuer": at, "authorization_endpoint": at + "/authorize", "token_endpoint": at + "/token", "response_types_supported": []string{"code"}}
	case strings.HasSuffix(r.URL.Path, "/device/code"):
		answer = map[string]any{"device_code": "device", "user_code": "ABCD-1234", "verification_uri": "https://" + r.Host + "/login/device", "expires_in": 900, "interval": 1}
	case grant == "authorization_code" && r.FormValue("code") == "code-of-"+r.Host, grant == "client_credentials",
		grant == "urn:ietf:params:oauth:grant-type:device_code" && r.FormValue("device_code") == "device":
		answer = map[string]any{"access_token": token, "token_type": "bearer"}
	default:
		w.WriteHeader(http.StatusBadRequest)
		answer = map[string]any{"error": "invalid_grant"}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
	return true
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
	if b.lang == "console" && b.skip == "" {
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
	if askedFor.MatchString(b.text) {
		eventually(d.t, "the port of the callback is free", func() bool {
			ln, err := net.Listen("tcp", "127.0.0.1:7999")
			if err == nil {
				ln.Close()
			}
			return err == nil
		}, func() string { return "" })
	}
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
		term.expect(keys.prompt)
		if !keys.shown {
			eventually(d.t, "the terminal hides what is typed", func() bool { return !term.echoes() }, term.output)
		}
		term.typed(strings.NewReplacer("sk-YOUR-REAL-KEY", openaiKey).Replace(keys.keys) + "\n")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.visit(term, steps)
	}()
	term.wait()
	<-done
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

// askedFor is how a command asks for a page to be opened.
var askedFor = regexp.MustCompile(`Open this page in a browser to approve the login:\r?\n  (https://\S+)\r?\n`)

// visit opens the pages that commands ask for, as many as the document shows.
func (d *desk) visit(term *terminal, steps []step) {
	d.t.Helper()
	want := 0
	for _, s := range steps {
		want += len(askedFor.FindAllString(s.want, -1))
	}
	for seen := range want {
		var urls [][]string
		for end := time.Now().Add(patience); len(urls) <= seen; time.Sleep(10 * time.Millisecond) {
			if urls = askedFor.FindAllStringSubmatch(term.output(), -1); time.Now().After(end) {
				return // what the commands print says why
			}
		}
		res, err := d.browser.Get(urls[seen][1])
		if err != nil {
			d.t.Errorf("open %s: %v", urls[seen][1], err)
			return
		}
		res.Body.Close()
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
