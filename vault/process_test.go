package vault_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"authsome/vault"
	"authsome/vault/audit"

	"go.uber.org/goleak"
)

// children are what the test binary does when it is started as another process.
// Each prints lines and ends when its input does.
var children = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	if name := os.Getenv("VAULT_TEST_CHILD"); name != "" {
		if err := children[name](os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child is a running process of the test binary.
type child struct {
	*exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

// start runs a child. It is killed when the test ends.
func start(t testing.TB, prepare func(*exec.Cmd), name string, args ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "VAULT_TEST_CHILD="+name)
	if prepare != nil {
		prepare(cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: cmd, in: in, lines: bufio.NewScanner(out)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return c
}

// line returns the child's next line, or fails the test.
func (c *child) line(t testing.TB) string {
	t.Helper()
	if !c.lines.Scan() {
		t.Fatalf("the child ended: %v", c.lines.Err())
	}
	return c.lines.Text()
}

// rest returns all further lines of the child.
func (c *child) rest() []string {
	var all []string
	for c.lines.Scan() {
		all = append(all, c.lines.Text())
	}
	return all
}

// openIn opens the vault of dir in this process: store.db, master.key, audit.log.
func openIn(dir string) (*vault.Vault, error) {
	store, err := vault.OpenBolt(dir+"/store.db", vault.BoltConfig{Timeout: 30 * time.Second}) // the tests crowd
	if err != nil {
		return nil, err
	}
	log, err := audit.Open(dir+"/audit.log", audit.Config{})
	if err != nil {
		return nil, err
	}
	return vault.Open(context.Background(), vault.Config{Store: store, Wrapper: vault.LocalKey(dir + "/master.key"), Audit: log})
}

// waitForInput returns when the parent closes the child's input or writes to it.
func waitForInput() { _, _ = os.Stdin.Read(make([]byte, 1)) }

func oneLine(err error) string { return strings.ReplaceAll(fmt.Sprint(err), "\n", " ") }
