package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestTraceGetsNoCredential has a client ask for its request to be returned
// (RFC 9110 section 9.3.8), which would be with the credential in it.
func TestTraceGetsNoCredential(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "message/http")
		r.Write(w)
	})
	for _, h2 := range []bool{false, true} {
		for _, method := range []string{"TRACE", "TRACK", "trace"} {
			req, _ := http.NewRequest(method, "https://"+apiHost+"/", nil)
			resp, err := r.client(h2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if strings.Contains(string(body), canary) {
				t.Errorf("%s, h2=%v: the client got the credential", method, h2)
			}
			if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Authsome-Error") != "bad_request" {
				t.Errorf("%s, h2=%v: got %d", method, h2, resp.StatusCode)
			}
		}
	}
	// Where no credential goes it is nobody's business but the origin's.
	r.route("https://" + apiHost + "/private")
	req, _ := http.NewRequest(http.MethodTrace, "https://"+apiHost+"/", nil)
	resp, err := r.client(false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Errorf("without a credential: got %d", resp.StatusCode)
	}
}
