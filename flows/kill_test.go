package flows_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/flows"
)

// killed has a process killed in the middle of its refresh, while another waits
// for its turn. answered says whether the authority had carried the refresh out.
func killed(t *testing.T, carriedOut bool) (s *shared, second report, took time.Duration) {
	t.Helper()
	s = newShared(t)
	victim := employ(t, job{Dir: s.dir, Roots: s.roots, Many: 1})
	heir := employ(t, job{Dir: s.dir, Roots: s.roots, Many: goroutines, Proxy: true})
	clock := 2 * time.Hour
	for _, w := range []*worker{victim, heir} {
		w.tell(t, order{"get ready", clock})
		w.hear(t)
	}
	reached, dead := make(chan bool), make(chan bool)
	var once sync.Once
	s.scripted(func(w http.ResponseWriter, r *http.Request, form url.Values) bool {
		mine := false
		once.Do(func() { mine = true })
		if !mine {
			return false
		}
		if carriedOut {
			s.mu.Lock()
			s.token(discard{}, form)
			s.mu.Unlock()
		}
		close(reached)
		<-dead
		return true
	})
	victim.tell(t, order{"go", clock})
	<-reached
	heir.tell(t, order{"go", clock})
	time.Sleep(200 * time.Millisecond) // it waits for the lease
	began := time.Now()
	if err := victim.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := victim.cmd.Wait(); err == nil {
		t.Fatal("the victim lives")
	}
	close(dead)
	return s, heir.hear(t), time.Since(began)
}

// What the provider had not rotated is not lost.
func TestKilledBeforeTheTokenWasRotated(t *testing.T) {
	t.Parallel()
	s, r, took := killed(t, false)
	f := s.family()
	if len(r.Errors) > 0 || len(r.Tokens) != 1 || r.Tokens[f.access] != goroutines {
		t.Errorf("got %v, errors %q", r.Tokens, r.Errors)
	}
	if f.dead || f.refreshes != 1 {
		t.Errorf("%d refreshes, revoked %v; want one", f.refreshes, f.dead)
	}
	if took > 10*time.Second {
		t.Errorf("the lease of a dead process was taken over after %v", took)
	}
	if got := s.audited(t); got["refresh.start ok"] != 2 || got["refresh ok"] != 1 {
		t.Errorf("audit = %v, want two starts and one refresh", got)
	}
	t.Logf("the lease was taken over and the refresh done %v after the kill", took)
}

// Where the new token went down with the process, the error says what happened
// and what to do, and the provider is left alone.
func TestKilledAfterTheTokenWasRotated(t *testing.T) {
	t.Parallel()
	s, r, _ := killed(t, true)
	if len(r.Tokens) != 0 || len(r.Errors) == 0 {
		t.Fatalf("got %v, errors %q; want errors", r.Tokens, r.Errors)
	}
	first := false
	for _, text := range r.Errors {
		first = first || strings.Contains(text, "was lost, and the new token with it")
		if strings.Contains(text, canary) {
			t.Errorf("an error holds a secret: %s", text)
		}
	}
	if !first {
		t.Errorf("errors = %q, want one that says what happened", r.Errors)
	}
	s.clock.by.Store(int64(2 * time.Hour))
	s.took()
	_, err := s.broker.Fresh(t.Context(), "acme", "")
	if !errors.Is(err, flows.ErrRevoked) || hint(err) != "run: authsome login acme" {
		t.Errorf("got %v (%s)", err, hint(err))
	}
	if calls := s.took(); len(calls) != 0 {
		t.Errorf("calls = %q, want none before a login", calls)
	}
}
