//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"authsome/ca"
)

const (
	awsID     = "AKIACANARYCANARYCANA"
	awsSecret = "canary7be1a9d4notforanybody/canary+aaaaa"
)

// awsRequest is a request as it reached AWS.
type awsRequest struct {
	Method string      `json:"method"`
	Host   string      `json:"host"`
	Target string      `json:"target"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// cloud stands for AWS. It answers whatever it is asked; what was signed by whom
// is looked at afterwards.
type cloud struct {
	mu       sync.Mutex
	requests []awsRequest
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	c.mu.Lock()
	c.requests = append(c.requests, awsRequest{r.Method, r.Host, r.RequestURI, r.Header, body})
	c.mu.Unlock()
	switch {
	case strings.HasPrefix(r.Host, "sts."):
		fmt.Fprint(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>`+
			`<Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
	case strings.Contains(r.URL.RawQuery, "list-type"):
		fmt.Fprint(w, `<ListBucketResult><KeyCount>2</KeyCount></ListBucketResult>`)
	case strings.HasPrefix(r.Host, "dynamodb."):
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		fmt.Fprint(w, "{}")
	case r.URL.Query().Has("uploads"):
		fmt.Fprint(w, `<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>`)
	case r.Method == http.MethodPost && strings.Contains(r.Host, "s3"):
		fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>`)
	case r.Method == http.MethodPut:
		w.Header().Set("ETag", `"tag"`)
	case r.Method == http.MethodGet:
		fmt.Fprint(w, "blob")
	}
}

// TestAWS has AWS's own SDK for Python, and curl, sign with the placeholders, and
// compares what reaches AWS with the signatures that the SDK makes of it with the
// real key.
func TestAWS(t *testing.T) {
	w := newWorld(t)
	c := &cloud{}
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"amazonaws.com"}})
	if err != nil {
		t.Fatal(err)
	}
	origin := httptest.NewUnstartedServer(c)
	origin.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return authority.Leaf(context.Background(), hello.ServerName)
	}}
	origin.StartTLS()
	t.Cleanup(origin.Close)
	internet := httptest.NewServer(connectAll("amazonaws.com", origin.Listener.Addr().String()))
	t.Cleanup(internet.Close)
	w.internet = internet.URL
	if err := os.WriteFile(w.roots, authority.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.run(w.command(nil, "login", "aws", "--secret-file", "-"), awsID+":"+awsSecret+"\n"); r.code != 0 {
		t.Fatalf("login: %s", r.stderr)
	}

	python := filepath.Join("/usr/bin", "python3")
	r := w.must("run", "--", python, "testdata/aws/client.py")
	want := `who: 123456789012
put: "tag"
put signed: "tag"
put a stream: None
get: b'blob'
list: 2
item: 200
invoke: 200
role: refused: injection_failed
session: refused: injection_failed
access key: refused: injection_failed
presigned: 200
anonymous: 200
environment: AKIAXXXXXXXXXXXXXXXX `
	if !strings.HasPrefix(r.stdout, want) || !strings.Contains(strings.TrimPrefix(r.stdout, want), "authsome") {
		t.Errorf("got\n%s%swant\n%s…", r.stdout, r.stderr, want)
	}
	r = w.must("run", "--", "sh", "-c", `curl -sS --aws-sigv4 aws:amz:eu-west-1:sns --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
		-d 'Action=Publish&Message=a%20b+c' https://sns.eu-west-1.amazonaws.com/ -o /dev/null -w '%{http_code}'`)
	if r.stdout != "200" {
		t.Errorf("curl: %s%s", r.stdout, r.stderr)
	}
	if strings.Contains(r.stdout+r.stderr, awsSecret) {
		t.Error("the secret is in what was printed")
	}
	c.verify(t, python)
	w.awsLog(t)
}

// verify compares the signatures of what arrived with those that are right.
func (c *cloud) verify(t *testing.T, python string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var signed []awsRequest
	services := map[string]int{}
	for _, r := range c.requests {
		if len(r.Header["Authorization"]) == 0 {
			switch {
			case strings.HasPrefix(r.Host, "public.") && !strings.Contains(r.Target, "?"):
			case strings.Contains(r.Target, "/presigned?") && strings.Contains(r.Target, "AKIAXXXXXXXXXXXXXXXX"):
			default:
				t.Errorf("not signed: %s https://%s%s", r.Method, r.Host, r.Target)
			}
			services["none"]++
			continue
		}
		signed = append(signed, r)
		service, _, _ := strings.Cut(strings.TrimPrefix(r.Host, "bucket."), ".")
		services[service]++
		if r.Header.Get("X-Amz-Security-Token") != "" || strings.Contains(fmt.Sprint(r.Header), "AKIAXXXXXXXXXXXXXXXX") {
			t.Errorf("something of the client's own signature is left: %v", r.Header)
		}
	}
	if want := []string{"dynamodb", "lambda", "none", "s3", "sns", "sts"}; services["none"] != 2 || services["s3"] < 6 || !slices.Equal(slices.Sorted(maps.Keys(services)), want) {
		t.Errorf("AWS was asked %v", services)
	}
	given, err := json.Marshal(map[string]any{"secret": awsSecret, "requests": signed})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/aws/verify.py")
	cmd.Stdin = bytes.NewReader(given)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	right := strings.Fields(string(out))
	if len(right) != len(signed) {
		t.Fatalf("%d signatures for %d requests", len(right), len(signed))
	}
	for i, r := range signed {
		if got := r.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+right[i]) || !strings.Contains(got, "Credential="+awsID+"/") {
			t.Errorf("%s https://%s%s: got %s, want signature %s", r.Method, r.Host, r.Target, got, right[i])
		}
	}
}

// awsLog looks for the secret in what was recorded, and for why calls were refused.
func (w *world) awsLog(t *testing.T) {
	log := w.must("log", "-n", "1000", "--json").stdout
	if strings.Contains(log, awsSecret) || strings.Contains(log, awsID) {
		t.Error("the credential is in the audit log")
	}
	if n := strings.Count(log, `"injection_failed"`); n != 3 {
		t.Errorf("%d refusals in the audit log, want 3", n)
	}
}
