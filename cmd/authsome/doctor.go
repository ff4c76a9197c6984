package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"authsome"
	"authsome/flows"
	"authsome/injector"
	"authsome/vault/secret"

	"github.com/spf13/cobra"
)

// check is one finding of doctor.
type check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
	Output string `json:"output,omitempty"` // what a client printed that did not get through
}

func passed(name, detail string) check { return check{Name: name, OK: true, Detail: detail} }

// failed keeps the detail, which may be several errors, on one line.
func failed(name, detail, fix string) check {
	return check{Name: name, Detail: strings.ReplaceAll(detail, "\n", "; "), Fix: fix}
}

func newDoctor(a *app) *cobra.Command {
	var noClients bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what does not work, and how to mend it",
		Long: `Check the home, the vault, the definitions and the connections, and then have
every client that is on PATH (curl, git, python, node, …) make a real request
through a proxy to an API on the loopback, to see which of them find the proxy
and trust it. Nothing leaves this machine. The exit code is 1 when a check fails.`,
		Example: "  authsome doctor\n  authsome doctor --json",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := a.examine(cmd.Context())
			checks = append(checks, a.checkIsolation())
			if !noClients {
				checks = append(checks, a.probeClients(cmd.Context())...)
			}
			return a.reportChecks(checks)
		},
	}
	cmd.Flags().BoolVar(&noClients, "no-clients", false, "do not try the clients on PATH")
	return cmd
}

func (a *app) reportChecks(checks []check) error {
	failed := 0
	for _, c := range checks {
		if !c.OK {
			failed++
		}
	}
	var err error
	if a.json {
		err = a.emit(map[string]any{"ok": failed == 0, "checks": checks})
	} else {
		err = a.printChecks(checks)
	}
	if err == nil && failed > 0 {
		err = &fault{code: "ChecksFailed", exit: exitOther, msg: fmt.Sprintf("%d of %d checks failed", failed, len(checks)), hint: "each says what mends it"}
	}
	return err
}

func (a *app) printChecks(checks []check) error {
	width := 0
	for _, c := range checks {
		width = max(width, cells(c.Name))
	}
	for _, c := range checks {
		mark := a.paint(a.stdout, green, "ok  ")
		if !c.OK {
			mark = a.paint(a.stdout, red, "FAIL")
		}
		lines := mark + gap + c.Name + strings.Repeat(" ", width-cells(c.Name)) + gap + printable(c.Detail)
		indent := "\n" + strings.Repeat(" ", len("FAIL")+len(gap)+width+len(gap))
		for line := range strings.Lines(c.Output) {
			lines += indent + "| " + printable(strings.TrimRight(line, "\r\n"))
		}
		if !c.OK && c.Fix != "" {
			lines += indent + "→ " + c.Fix
		}
		if err := a.print("%s", lines); err != nil {
			return err
		}
	}
	return nil
}

// examine checks what is kept.
func (a *app) examine(ctx context.Context) []check {
	client, err := a.open(ctx)
	if err != nil {
		f := describe(err)
		return []check{failed("home", f.msg, f.hint)}
	}
	checks := []check{passed("home", client.Home.Dir+", profile "+client.Profile+", encryption "+client.Home.Config.Encryption.Mode)}
	checks = append(checks, checkPermissions(client.Home.Dir), checkVault(ctx, client), checkDefinitions(client))
	if err := client.Record("doctor", "", ""); err != nil {
		checks = append(checks, failed("audit", err.Error(), "free disk space, or mend the permissions of audit.log"))
	} else {
		checks = append(checks, passed("audit", client.Home.AuditPath()+" can be written"))
	}
	return append(checks, a.checkConnections(ctx, client)...)
}

func checkPermissions(dir string) check {
	var open []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && info.Mode()&fs.ModeSymlink == 0 {
			open = append(open, path)
		}
		return nil
	})
	switch {
	case err != nil:
		return failed("permissions", err.Error(), "make the home readable for you")
	case len(open) > 0:
		return failed("permissions", fmt.Sprintf("others can reach %s", strings.Join(open, ", ")), "run: chmod -R go= "+dir)
	}
	return passed("permissions", "nobody else can read the home")
}

func checkVault(ctx context.Context, client *authsome.Client) check {
	report, err := client.Vault.Check(ctx)
	switch {
	case err != nil:
		f := describe(err)
		return failed("vault", f.msg, f.hint)
	case len(report.Damaged) > 0:
		return failed("vault", errors.Join(report.Damaged...).Error(), "log in again with --force to replace damaged records, or run: authsome vault restore FILE")
	}
	return passed("vault", fmt.Sprintf("%d records, all of them open", report.Records))
}

func checkDefinitions(client *authsome.Client) check {
	if len(client.Warnings) > 0 {
		return failed("providers", errors.Join(client.Warnings...).Error(), "mend the file, or run: authsome remove NAME")
	}
	return passed("providers", fmt.Sprintf("%d definitions", len(client.Registry.All())))
}

// checkConnections looks for what has expired and for what gets in each other's
// way.
func (a *app) checkConnections(ctx context.Context, client *authsome.Client) []check {
	held, err := client.Broker.List(ctx)
	if err != nil {
		f := describe(err)
		return []check{failed("connections", f.msg, f.hint)}
	}
	var checks []check
	var routes []*injector.Route
	for _, name := range sortedKeys(held) {
		entry, err := client.Registry.Lookup(name)
		if err != nil && len(held[name].Connections) > 0 {
			checks = append(checks, failed(name, "there are connections, but no definition of the provider", "run: authsome register FILE, or authsome remove "+name))
			continue
		}
		for _, c := range held[name].Connections {
			checks = append(checks, connectionCheck(held[name], c, a.now()))
			if c.Name == held[name].Default {
				if compiled, err := injector.Compile(entry.Definition, pinned(c)); err == nil {
					routes = append(routes, compiled...)
				}
			}
		}
	}
	for _, t := range injector.NewTable(routes).Ties() {
		checks = append(checks, failed("route "+t.Where, "claimed by "+strings.Join(t.Connections, " and ")+": no credential is attached",
			"choose one for a run with --provider, or log out of one"))
	}
	return checks
}

// connectionCheck fails when there is something to do. A refresh that failed while
// the token is good is told and no more: it is tried again.
func connectionCheck(held *flows.Listing, c *flows.Connection, now time.Time) check {
	l := listedOf(held, c, now)
	detail := string(l.Status)
	if l.ExpiresAt != nil || l.LastRefresh != nil {
		detail += ", " + age(l.ExpiresAt, l.LastRefresh, now)
	}
	if l.LastError != "" {
		detail += "; the last refresh failed " + brief(now.Sub(*l.LastErrorAt)) + " ago: " + l.LastError
	}
	name := c.Provider + "/" + c.Name
	if l.Hint == "" || l.Status == flows.Connected && !held.States[c.Name].ClientRejected {
		return passed(name, detail)
	}
	return failed(name, detail, l.Hint)
}

// probe is a client and how to have it fetch a URL. $URL and $DIR are replaced.
type probe struct {
	name string
	argv []string
	file string // content of $DIR/probe, when there is one
	fix  string
}

var probes = []probe{
	{"curl", []string{"curl", "-sS", "$URL"}, "", ""},
	{"wget", []string{"wget", "-qO-", "$URL"}, "", ""},
	{"git", []string{"git", "ls-remote", "$URL"}, "", ""},
	{"python3", []string{"python3", "-c", "import urllib.request; urllib.request.urlopen('$URL').read()"}, "", ""},
	{"node", []string{"node", "-e", "fetch('$URL').then(r => r.text()).catch(e => { console.error(String(e.cause ?? e)); process.exit(1) })"}, "",
		"Node reads its proxy from the environment from 22.21 and 24.5 on; older ones need a proxy agent in the program, or run --isolate"},
	{"ruby", []string{"ruby", "-rnet/http", "-e", "Net::HTTP.get(URI('$URL'))"}, "", ""},
	{"php", []string{"php", "-r", "$c = curl_init('$URL'); curl_setopt($c, CURLOPT_RETURNTRANSFER, true); curl_exec($c);"}, "", "install PHP's curl extension: its streams read no proxy variable"},
	{"java", []string{"java", "$DIR/Probe.java"}, `public class Probe { public static void main(String[] a) throws Exception { new java.net.URL("$URL").openStream().readAllBytes(); } }`,
		"a JRE without a compiler cannot be tried; programs are given the proxy and trust store by JAVA_TOOL_OPTIONS"},
	{"deno", []string{"deno", "eval", "await (await fetch('$URL')).text()"}, "", ""},
	{"bun", []string{"bun", "-e", "await (await fetch('$URL')).text()"}, "", ""},
}

// probeTime is how long a client may take. A JVM compiles its program first.
const probeTime = 20 * time.Second

// probeClients has every client on PATH make a request that needs the proxy.
func (a *app) probeClients(ctx context.Context) []check {
	dir, err := os.MkdirTemp("", "authsome-doctor-")
	if err != nil {
		return []check{failed("clients", err.Error(), "make the temporary directory writable")}
	}
	defer os.RemoveAll(dir)
	sandbox := &app{getenv: a.getenv, stdin: a.stdin, stdout: a.stderr, stderr: a.stderr, quiet: true, log: a.logger()}
	s, api, key, err := sandbox.demoWorld(ctx, filepath.Join(dir, "home"))
	if err != nil {
		return []check{failed("clients", "the proxy does not start: "+err.Error(), "run with --verbose for the log")}
	}
	defer sandbox.close()
	defer api.close()
	defer s.close(ctx)
	var checks []check
	for _, p := range probes {
		path, err := exec.LookPath(p.argv[0])
		if err != nil {
			continue
		}
		checks = append(checks, p.try(ctx, s, api, key, path, dir))
	}
	return checks
}

func (p probe) try(ctx context.Context, s *session, api *demoAPI, key secret.Text, path, dir string) check {
	target := "https://" + demoHost + "/probe/" + p.name
	fill := strings.NewReplacer("$URL", target, "$DIR", dir)
	if p.file != "" {
		if err := os.WriteFile(filepath.Join(dir, "Probe.java"), []byte(fill.Replace(p.file)), 0o600); err != nil {
			return failed("client "+p.name, err.Error(), "")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	argv := make([]string, len(p.argv)-1)
	for i, arg := range p.argv[1:] {
		argv[i] = fill.Replace(arg)
	}
	cmd := exec.CommandContext(ctx, path, argv...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = append(s.environment(os.Environ()), "GIT_TERMINAL_PROMPT=0"), dir, time.Second
	out, err := cmd.CombinedOutput() // what counts is what the API received
	if api.received("/probe/"+p.name) == "Bearer "+key.Reveal() {
		return check{Name: "client " + p.name, OK: true, Detail: path + " finds the proxy and trusts it"}
	}
	how := "it did not reach the API, and says nothing is wrong"
	switch {
	case ctx.Err() != nil:
		how = "it did not end within " + probeTime.String()
	case err != nil:
		how = err.Error()
	}
	return check{Name: "client " + p.name, Detail: path + " did not get through: " + how,
		Output: lastLines(strings.ReplaceAll(string(out), s.engine.token.Reveal(), "***")),
		Fix:    orElse(p.fix, "see docs/troubleshooting.md, \"A client does not trust the certificate\"")}
}

// outputLines is enough for what a client has to say; a stack trace says it at
// its end.
const outputLines = 12

// lastLines are the last lines of an output that are not empty.
func lastLines(output string) string {
	var kept []string
	for line := range strings.Lines(output) {
		if line = strings.TrimRight(line, " \t\r\n"); line != "" {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-outputLines):], "\n")
}
