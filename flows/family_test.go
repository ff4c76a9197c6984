package flows_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/flows"
	"authsome/provider"
	"authsome/vault"
	"authsome/vault/audit"

	"go.uber.org/goleak"
)

const (
	workers    = 8   // processes
	goroutines = 200 // in each of them

	// workerVariable makes the test binary a worker.
	workerVariable = "AUTHSOME_FLOWS_WORKER"
	// roundsVariable is how many rounds TestOneRefreshWhoeverAsks has.
	roundsVariable = "AUTHSOME_REFRESH_ROUNDS"
	manyRounds     = 50
)

// order is what a worker is told: one JSON line for each round.
type order struct {
	Step  string        // "get ready" or "go"
	Clock time.Duration // what its clock is ahead of time
}

// report is what a worker answers.
type report struct {
	PID    int
	Ready  bool           // it has heard "get ready"
	Tokens map[string]int // what its goroutines got, by token
	Errors []string       // of its goroutines, each once
}

// job is what a worker is.
type job struct {
	Dir   string
	Roots string // PEM of the authority's certificate
	Proxy bool   // it serves a snapshot, as a proxy; else it reads the vault each time, as an export
	Many  int    // goroutines
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(workerVariable); spec != "" {
		if err := work(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// ahead is a clock that runs ahead of time.
type ahead struct{ by atomic.Int64 }

func (a *ahead) Now() time.Time { return time.Now().Add(time.Duration(a.by.Load())) }

// work is the life of a worker process.
func work(spec string) error {
	var j job
	if err := json.Unmarshal([]byte(spec), &j); err != nil {
		return err
	}
	var clock ahead
	b, err := onDisk(j.Dir, j.Roots, clock.Now, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	ctx := context.Background()
	ask := func() (string, error) {
		c, err := b.Fresh(ctx, "acme", "")
		if err != nil {
			return "", err
		}
		return c.AccessToken.Reveal(), nil
	}
	if j.Proxy {
		if err := b.Watch(ctx, func() {}); err != nil {
			return err
		}
		ask = func() (string, error) {
			cred, err := b.Credential(ctx, "acme", "default")
			return cred.Reveal(), err
		}
	}
	say := json.NewEncoder(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		clock.by.Store(int64(o.Clock))
		r := report{PID: os.Getpid(), Ready: o.Step != "go"}
		if !r.Ready {
			r.rush(j.Many, ask)
		}
		if err := say.Encode(r); err != nil {
			return err
		}
	}
	return errors.Join(in.Err(), b.Drain(ctx))
}

// rush has many goroutines ask at the same time.
func (r *report) rush(many int, ask func() (string, error)) {
	r.Tokens = map[string]int{}
	seen := map[string]bool{}
	var mu sync.Mutex
	var all sync.WaitGroup
	start := make(chan struct{})
	for range many {
		all.Go(func() {
			<-start
			token, err := ask()
			mu.Lock()
			defer mu.Unlock()
			if err != nil && !seen[err.Error()] {
				seen[err.Error()] = true
				r.Errors = append(r.Errors, err.Error())
			}
			if err == nil {
				r.Tokens[token]++
			}
		})
	}
	close(start)
	all.Wait()
}

// onDisk is a broker on the vault in dir, as every process has one.
func onDisk(dir, roots string, clock func() time.Time, logger *slog.Logger) (*flows.Broker, error) {
	log, err := audit.Open(filepath.Join(dir, "audit.log"), audit.Config{Profile: "default", Clock: clock})
	if err != nil {
		return nil, err
	}
	store, err := vault.OpenBolt(filepath.Join(dir, "store.db"), vault.BoltConfig{})
	if err != nil {
		return nil, err
	}
	v, err := vault.Open(context.Background(), vault.Config{Store: store, Wrapper: vault.LocalKey(filepath.Join(dir, "master.key")),
		Audit: log, Clock: clock, Logger: logger})
	if err != nil {
		return nil, err
	}
	registry, errs := provider.Load(filepath.Join(dir, "providers"))
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(roots)) {
		return nil, errors.New("no certificate")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	return flows.New(flows.Config{Vault: v, Profile: "default", Registry: registry, Clock: clock, Logger: logger, HTTP: client})
}

// worker is a process that is told what to do.
type worker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr *buffer
}

func employ(t *testing.T, j job) *worker {
	t.Helper()
	spec, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{cmd: exec.Command(os.Args[0]), stderr: new(buffer)}
	w.cmd.Env = append(os.Environ(), workerVariable+"="+string(spec))
	w.cmd.Stderr = w.stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.out = bufio.NewScanner(out)
	w.out.Buffer(nil, 1<<20)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.in.Close()
		late := time.AfterFunc(20*time.Second, func() { w.cmd.Process.Kill() })
		defer late.Stop()
		w.cmd.Wait()
		if said := w.stderr.String(); strings.Contains(said, canary) {
			t.Errorf("a worker's log holds a secret:\n%s", said)
		} else if t.Failed() && said != "" {
			t.Logf("a worker wrote:\n%s", said)
		}
	})
	return w
}

func (w *worker) tell(t *testing.T, o order) {
	t.Helper()
	if err := json.NewEncoder(w.in).Encode(o); err != nil {
		t.Fatal(err)
	}
}

func (w *worker) hear(t *testing.T) report {
	t.Helper()
	var r report
	if !w.out.Scan() {
		t.Fatalf("a worker ended: %v\n%s", w.out.Err(), w.stderr)
	}
	if err := json.Unmarshal(w.out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// shared is a vault on disk with one login, and the authority that it is at.
type shared struct {
	*authority
	dir, roots string
	clock      ahead
	broker     *flows.Broker
	login      *flows.Connection
}

func newShared(t *testing.T) *shared {
	t.Helper()
	s := &shared{authority: &authority{t: t, life: time.Hour, families: map[string]*family{}, codes: map[string]bool{}}, dir: t.TempDir()}
	server := httptest.NewTLSServer(s.authority)
	t.Cleanup(server.Close)
	s.url = server.URL
	s.roots = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	definitions := filepath.Join(s.dir, "providers")
	if err := os.MkdirAll(definitions, 0o700); err != nil {
		t.Fatal(err)
	}
	entry, err := provider.Register(definitions, []byte(s.definition(map[string]any{"flow": "device_code"})), false)
	if err != nil {
		t.Fatal(err)
	}
	if s.broker, err = onDisk(s.dir, s.roots, s.clock.Now, nil); err != nil {
		t.Fatal(err)
	}
	if s.login, err = s.broker.LoginOAuth(t.Context(), flows.Login{Provider: entry}, s.agrees()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b, err := os.ReadFile(filepath.Join(s.dir, "audit.log"))
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(string(b), canary) {
			t.Error("the audit log holds a secret")
		}
	})
	return s
}

// audited counts audit entries by event and outcome.
func (s *shared) audited(t *testing.T) map[string]int {
	t.Helper()
	f, err := os.Open(filepath.Join(s.dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := map[string]int{}
	for e, err := range audit.Read(f, audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n[e.Event+" "+e.Outcome]++
	}
	return n
}

func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv(roundsVariable)
	if text == "" {
		return manyRounds
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number of rounds", roundsVariable, text)
	}
	return n
}

// 200 goroutines in each of 8 processes, half of them proxies and half exports,
// find the token expired at the same time. The authority revokes the whole login
// when an old refresh token comes again.
func TestOneRefreshWhoeverAsks(t *testing.T) {
	t.Parallel()
	s := newShared(t)
	var all []*worker
	for i := range workers {
		all = append(all, employ(t, job{Dir: s.dir, Roots: s.roots, Proxy: i%2 == 0, Many: goroutines}))
	}
	last := s.family().access
	var slowest time.Duration
	for round := 1; round <= rounds(t); round++ {
		clock := time.Duration(round) * 2 * time.Hour
		for _, w := range all {
			w.tell(t, order{"get ready", clock})
		}
		for _, w := range all {
			w.hear(t)
		}
		began := time.Now()
		for _, w := range all {
			w.tell(t, order{"go", clock})
		}
		reports := make([]report, len(all))
		for i, w := range all {
			reports[i] = w.hear(t)
		}
		slowest = max(slowest, time.Since(began))
		f := s.family()
		if f.dead || f.refreshes != round || f.access == last {
			t.Fatalf("round %d: %d refreshes so far, want one a round; family revoked: %v", round, f.refreshes, f.dead)
		}
		for _, r := range reports {
			if len(r.Errors) > 0 || len(r.Tokens) != 1 || r.Tokens[f.access] != goroutines {
				t.Fatalf("round %d: process %d got %v, errors %q; want %d times the one token", round, r.PID, r.Tokens, r.Errors, goroutines)
			}
		}
		last = f.access
	}
	n := rounds(t)
	if got := s.audited(t); got["refresh.start ok"] != n || got["refresh ok"] != n || got["refresh failed"] != 0 || got["refresh.start failed"] != 0 {
		t.Errorf("audit = %v, want %d refreshes", got, n)
	}
	t.Logf("%d rounds of %d processes with %d goroutines each: one refresh a round; the slowest took %v", n, workers, goroutines, slowest)
}
