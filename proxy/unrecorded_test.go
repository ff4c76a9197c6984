package proxy_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"authsome/proxy"
	"authsome/vault/audit"
)

// A log that cannot be written refuses every injection, and is complained of
// once: a full disk is not helped by a line for each request.
func TestUnwritableAudit(t *testing.T) {
	log, err := audit.Open(filepath.Join(t.TempDir(), "audit.log"), audit.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, false, func(w http.ResponseWriter, _ *http.Request) {
		t.Error("a request that is not recorded reached the origin")
	}, func(_ *rig, cfg *proxy.Config) { cfg.Audit = log })
	client := r.client(false)
	for range 3 {
		resp, err := client.Get("https://" + apiHost + "/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Authsome-Error"); resp.StatusCode != http.StatusServiceUnavailable || got != "audit_unavailable" {
			t.Errorf("got %d %s, want 503 audit_unavailable", resp.StatusCode, got)
		}
	}
	if got := strings.Count(r.log.String(), `msg="audit refusal"`); got != 1 {
		t.Errorf("the log complains %d times, want once", got)
	}
}
