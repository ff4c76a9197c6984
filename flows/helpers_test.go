package flows_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/flows"
	"authsome/provider"
	"authsome/vault"
	"authsome/vault/audit"
	"authsome/vault/secret"
)

// canary is part of every secret in these tests. It may turn up in no error, no
// log, no audit entry and no file.
const canary = "c4n4ry"

// epoch is when the tests take place.
var epoch = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// watch is a clock that is set by hand.
type watch struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func (w *watch) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *watch) Add(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// flaky is a store that can be told to fail, and that counts.
type flaky struct {
	vault.Store
	mu      sync.Mutex
	refuse  func(vault.Batch) error // guarded by mu
	touched int                     // guarded by mu; loads and commits
}

func (f *flaky) Load(ctx context.Context, prefix string) (map[string][]byte, error) {
	f.mu.Lock()
	f.touched++
	f.mu.Unlock()
	return f.Store.Load(ctx, prefix)
}

func (f *flaky) Commit(ctx context.Context, b vault.Batch) error {
	f.mu.Lock()
	f.touched++
	refuse := f.refuse
	f.mu.Unlock()
	if refuse != nil {
		if err := refuse(b); err != nil {
			return err
		}
	}
	return f.Store.Commit(ctx, b)
}

func (f *flaky) failing(refuse func(vault.Batch) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = refuse
}

func (f *flaky) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.touched
}

// settled returns the count once the snapshot has caught up.
func (f *flaky) settled() int {
	for before := -1; ; time.Sleep(30 * time.Millisecond) {
		now := f.count()
		if now == before {
			return now
		}
		before = now
	}
}

// rig is a broker with everything around it.
type rig struct {
	*flows.Broker
	t         testing.TB
	dir       string
	clock     *watch
	log       *buffer
	store     *flaky
	vault     *vault.Vault
	env       map[string]string
	outcomes  *buffer // of refreshes, one a line
	auditPath string
}

// setup makes a broker for the definition, whose calls go over client.
func setup(t testing.TB, client *http.Client, definitions ...string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), clock: &watch{now: epoch}, log: new(buffer), outcomes: new(buffer),
		store: &flaky{Store: vault.NewMemory()}, env: map[string]string{}}
	r.auditPath = filepath.Join(r.dir, "audit.log")
	for _, def := range definitions {
		r.register(def)
	}
	r.vault = r.open(audit.Config{Profile: "default", Clock: r.clock.Now})
	r.Broker = r.broker(client)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Drain(ctx); err != nil {
			t.Errorf("a renewal does not end: %v", err)
		}
		for name, text := range map[string]string{"log": r.log.String(), "audit log": r.auditText()} {
			if strings.Contains(text, canary) {
				t.Errorf("the %s holds a secret:\n%s", name, text)
			}
		}
	})
	return r
}

func (r *rig) open(cfg audit.Config) *vault.Vault {
	r.t.Helper()
	log, err := audit.Open(r.auditPath, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { log.Close() })
	v, err := vault.Open(r.t.Context(), vault.Config{Store: r.store, Wrapper: vault.LocalKey(filepath.Join(r.dir, "master.key")),
		Audit: log, Clock: r.clock.Now, Logger: slog.New(slog.NewTextHandler(r.log, nil))})
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// broker makes another broker on the same vault, with the definitions as they
// are now.
func (r *rig) broker(client *http.Client) *flows.Broker {
	r.t.Helper()
	registry, errs := provider.Load(r.dir)
	if len(errs) > 0 {
		r.t.Fatal(errs)
	}
	b, err := flows.New(flows.Config{Vault: r.vault, Profile: "default", Registry: registry, Clock: r.clock.Now,
		Logger: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		HTTP:   client, Getenv: func(name string) string { return r.env[name] }})
	if err != nil {
		r.t.Fatal(err)
	}
	b.Observe(func(provider, outcome string) { fmt.Fprintln(r.outcomes, provider, outcome) })
	return b
}

func (r *rig) register(definition string) {
	r.t.Helper()
	if _, err := provider.Register(r.dir, []byte(definition), true); err != nil {
		r.t.Fatal(err)
	}
}

// entry is the definition of a provider as the broker is given it.
func (r *rig) entry(name string) *provider.Entry {
	r.t.Helper()
	registry, errs := provider.Load(r.dir)
	if len(errs) > 0 {
		r.t.Fatal(errs)
	}
	e, err := registry.Lookup(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// follow begins to serve the vault's snapshot, as the proxy does.
func (r *rig) follow() {
	r.t.Helper()
	if err := r.Watch(r.t.Context(), func() {}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) auditText() string {
	b, err := os.ReadFile(r.auditPath)
	if err != nil {
		r.t.Error(err)
	}
	return string(b)
}

// audited returns the audit entries so far, "event provider/connection outcome
// code" each, and forgets none.
func (r *rig) audited() []string {
	r.t.Helper()
	var lines []string
	for e, err := range audit.Read(strings.NewReader(r.auditText()), audit.Filter{}) {
		if err != nil {
			r.t.Fatal(err)
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s/%s %s %s", e.Event, e.Provider, e.Connection, e.Outcome, e.Code)))
	}
	return lines
}

// events returns a function that gives the audit entries since the last call.
func (r *rig) events() func() []string {
	seen := len(r.audited())
	return func() []string {
		all := r.audited()
		defer func() { seen = len(all) }()
		return all[seen:]
	}
}

// get returns a stored connection.
func (r *rig) get(name, connection string) *flows.Connection {
	r.t.Helper()
	c, err := r.Get(r.t.Context(), name, connection)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// advice is what a listing says to do about a connection.
func (r *rig) advice(c *flows.Connection) string {
	r.t.Helper()
	all, err := r.List(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return all[c.Provider].Advice(c, r.clock.Now())
}

// state returns a stored connection's history.
func (r *rig) state(name, connection string) flows.ConnectionState {
	r.t.Helper()
	all, err := r.List(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if all[name] == nil {
		return flows.ConnectionState{}
	}
	return all[name].States[connection]
}

// safe checks that an error's text, however it is printed, holds no secret.
func safe(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v %#v", err, err)} {
		if strings.Contains(text, canary) {
			t.Errorf("an error holds a secret: %s", text)
		}
	}
}

// hint is what an error says to run next.
func hint(err error) string {
	var e *flows.ConnectionError
	if errors.As(err, &e) {
		return e.Next
	}
	return ""
}

// wants fails unless err matches kind and names no secret.
func wants(t testing.TB, err, kind error) {
	t.Helper()
	safe(t, err)
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %v", err, kind)
	}
}

// freePort is a port that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// person answers a login's questions without a browser.
type person struct {
	client func(flows.ClientRequest) (flows.ClientAnswer, error)
	visit  func(flows.Visit) error
	asked  []flows.ClientRequest
}

func (p *person) Client(_ context.Context, req flows.ClientRequest) (flows.ClientAnswer, error) {
	p.asked = append(p.asked, req)
	if p.client == nil {
		return flows.ClientAnswer{ID: "app", Secret: secret.New(canary + "-app")}, nil
	}
	return p.client(req)
}

func (p *person) Visit(_ context.Context, v flows.Visit) error { return p.visit(v) }

// object makes a definition from a template by setting fields, "a.b" is nested.
func object(t *testing.T, template string, set map[string]any) string {
	t.Helper()
	var d map[string]any
	if err := json.Unmarshal([]byte(template), &d); err != nil {
		t.Fatal(err)
	}
	for path, value := range set {
		at := d
		steps := strings.Split(path, ".")
		for _, step := range steps[:len(steps)-1] {
			next, ok := at[step].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[step] = next
			}
			at = next
		}
		if value == nil {
			delete(at, steps[len(steps)-1])
		} else {
			at[steps[len(steps)-1]] = value
		}
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const keyDefinition = `{"schema_version": 1, "name": "keyed", "display_name": "Keyed", "auth_type": "api_key", "flow": "api_key",
	"host_url": "api.keyed.test", "api_key": {"env_var": "KEYED_API_KEY"}, "export": {"env": {"api_key": "KEYED_API_KEY"}}}`

// flowsKey stores a key for keyDefinition.
func flowsKey(r *rig) secret.Text {
	r.t.Helper()
	key := secret.New(canary + "-key")
	if _, err := r.LoginAPIKey(r.t.Context(), flows.Login{Provider: r.entry("keyed")}, key); err != nil {
		r.t.Fatal(err)
	}
	return key
}
